/** One thumbnail of a page: how it looks and what a screen reader says about it. */

import { usualChoice } from "./choice.js";
import { make, percent, write } from "./dom.js";

/** A tile for a sample; `paintTile` fills it and brings it up to date. */
export function makeTile(sample) {
  const tile = make("div", "desk-tile");
  tile.id = `desk-tile-${sample.sample_id}`;
  tile.dataset.id = sample.sample_id;
  tile.setAttribute("role", "option");
  tile.title = sample.file_name;
  const head = make("span", "desk-tile-head");
  const label = make("strong", "desk-ellipsis");
  label.dir = "auto";
  head.append(label, make("span", "desk-tile-plan desk-ellipsis"));
  const foot = make("span", "desk-tile-foot");
  const suggested = make("span", "desk-tile-suggested desk-ellipsis");
  suggested.dir = "auto";
  foot.append(suggested, make("span", "desk-tile-clean"));
  tile.append(make("span", "desk-tile-frame"), head, foot);
  return tile;
}

/**
 * `kind` is "open", "marked", "planned" or "done"; `text` says what is or will be decided.
 */
export function paintTile(tile, sample, { kind, text, isCursor, picture, pictureState, name }) {
  tile.dataset.kind = kind;
  tile.dataset.picture = pictureState;
  tile.classList.toggle("desk-cursor", isCursor);
  tile.setAttribute("aria-selected", kind === "marked" || kind === "planned");
  write(tile.querySelector(".desk-tile-plan"), text);
  write(tile.querySelector("strong"), name(labelOf(sample)));
  write(tile.querySelector(".desk-tile-suggested"), suggestion(sample, name));
  write(tile.querySelector(".desk-tile-clean"), percent(sample.p_clean));
  const frame = tile.firstElementChild;
  if (picture.parentElement !== frame) {
    picture.alt = "";
    frame.querySelector("img")?.remove();
    frame.prepend(picture);
  }
  const stays = sample.is_second_look ? "stays as decided" : "keeps its label";
  const words = { open: stays, marked: "marked wrong, needs a class" };
  const state = pictureState === "there" ? (words[kind] ?? text) : `image ${pictureState}`;
  const suggested =
    sample.suggested_label === null ? "" : `, suggested ${name(sample.suggested_label)}`;
  tile.setAttribute(
    "aria-label",
    `${name(labelOf(sample))}${suggested}, clean ${percent(sample.p_clean)}: ${state}`,
  );
}

/** The label that the usual choice leaves on it. */
function labelOf(sample) {
  return usualChoice(sample).label ?? sample.given_label;
}

function suggestion({ suggested_label: label }, name) {
  return label === null ? "no suggestion" : `${name(label)}?`;
}
