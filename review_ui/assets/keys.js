/** The keys of each mode: what they do, what the list of keys says, and when they are heard. */

import { make } from "./dom.js";

const CARD = [
  [["Space", "K"], "keep", "keep the given label; in a second look, stay with the decision"],
  [["Enter"], "suggestion", "take the suggested label"],
  [["1", "2", "3", "4", "5"], "class", "one of the five most similar other classes"],
  [["/"], "other", "any other class, by its name"],
  [["B"], "both", "both: the given and the suggested label are right"],
  [["X"], "exclude", "exclude the image from the curated set"],
  [["U"], "unsure", "unsure"],
  [["ArrowLeft", "ArrowRight"], "step", "look at other images without deciding"],
  [["+", "-", "0"], "zoom", "zoom in, zoom out, whole image"],
  [
    ["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown"],
    "pan",
    "move over the zoomed image",
  ],
  [["H"], "history", "what was decided about the image before"],
];
const GRID = [
  [["Enter"], "confirm", "confirm the page: what is not marked stays as it is"],
  [["Space", "M"], "mark", "mark the image under the cursor, or take the mark away"],
  [["A"], "markAll", "mark all images of the page, or none"],
  [["S"], "suggestion", "the marked ones take their own suggestion"],
  [["1", "2", "3", "4", "5"], "class", "the marked ones take their own 1st to 5th class"],
  [["/"], "other", "give the marked ones one class"],
  [["B"], "both", "the marked ones: both"],
  [["X"], "exclude", "the marked ones: exclude"],
  [["U"], "unsure", "the marked ones: unsure"],
  [["K"], "keep", "the marked ones: keep or stay after all"],
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move", "move the cursor"],
  [
    ["Shift+ArrowLeft", "Shift+ArrowRight", "Shift+ArrowUp", "Shift+ArrowDown"],
    "range",
    "move the cursor and mark on the way",
  ],
  [["PageUp", "PageDown"], "page", "look at other pages without deciding"],
];
/** Heard by the figure that has the focus; see walk.js. */
const PLOTS = [
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "", "walk to the next point, or bar"],
  [["PageUp", "PageDown"], "", "the point before or after it by suspicion"],
  [["Home", "End"], "", "the most and the least suspect point"],
  [["Enter"], "", "open the image, or the bar as a queue"],
  [["Space"], "", "a corner of a region; at a second point, open the region"],
];
const EVERYWHERE = [
  [["Z"], "undo", "undo the last step, after a restart too"],
  [["Shift+Z"], "redo", "do it again"],
  [["N"], "note", "write a note on the image"],
  [["C"], "card", "one image at a time"],
  [["G"], "grid", "pages of images"],
  [["P"], "plots", "plots and the confusion table"],
  [["F"], "filter", "filter the queue"],
  [["?"], "help", "this list"],
];

const BY_MODE = {
  card: table([...CARD, ...EVERYWHERE]),
  grid: table([...GRID, ...EVERYWHERE]),
  plots: table(EVERYWHERE),
};
const HELD = ["step", "pan", "move", "range", "page"];
const WORDS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };

function table(entries) {
  return new Map(entries.flatMap(([keys, act]) => keys.map((key) => [key, act])));
}

/**
 * Calls act(name, key) for the keys of mode() for as long as the desk is on the page and in sight.
 */
export function listenToKeys(root, { mode, act }) {
  const onKey = (event) => {
    if (!root.isConnected) return document.removeEventListener("keydown", onKey);
    const key = nameOf(event);
    const name = BY_MODE[mode()]?.get(key);
    if (!name || !isForDesk(event, root)) return undefined;
    // A held key decides once, on a button too.
    if (event.repeat && !HELD.includes(name)) return event.preventDefault();
    if (isReached(event.target) && (key === "Space" || key === "Enter")) return undefined;
    event.preventDefault();
    return act(name, key);
  };
  document.addEventListener("keydown", onKey);
}

function isForDesk(event, root) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return false;
  if (root.offsetParent === null || document.querySelector("dialog[open]")) return false;
  return !event.target.closest("input, textarea, select, [contenteditable]");
}

/** Whether somebody came there with Tab, and so means that button, summary or the like. */
function isReached(element) {
  return element.matches(":focus-visible") && !element.matches(".desk, .desk-tiles");
}

/**
 * The key's name as in the tables; Shift counts for letters and for keys that write nothing. Where
 * the keys write Greek, say, a letter is the Latin one of its place.
 */
function nameOf({ key, code, shiftKey }) {
  if (key === " ") return "Space";
  const isLetter = /^\p{L}$/u.test(key);
  const latin = /^[a-z]$/i.test(key) ? key : code.replace(/^Key/, "");
  const name = isLetter ? latin.toUpperCase() : key;
  return shiftKey && (isLetter || (key.length > 1 && key !== "Enter")) ? `Shift+${name}` : name;
}

/** Fills the list of keys. */
export function listKeys(element) {
  const groups = [
    ["One image", CARD],
    ["Everywhere", EVERYWHERE],
    ["Grid", GRID],
    ["Plots", PLOTS],
  ];
  element.replaceChildren(
    ...groups.map(([title, entries]) => {
      const section = make("section");
      const list = make("dl", "desk-keys");
      for (const [keys, , says] of entries) list.append(keysOf(keys), make("dd", "", says));
      section.append(make("h4", "", title), list);
      return section;
    }),
  );
}

function keysOf(keys) {
  const term = make("dt");
  const isRange = keys[0] === "1";
  const isShifted = keys[0].startsWith("Shift+") && keys.length > 1;
  const shown = isRange ? ["1", "…", "5"] : isShifted ? ["Shift", "←→↑↓"] : keys;
  for (const key of shown) {
    if (key === "…") term.append("–");
    else
      for (const one of key.split("+").filter(Boolean))
        term.append(make("kbd", "", WORDS[one] ?? one));
    if (key === "+") term.append(make("kbd", "", "+"));
  }
  return term;
}
