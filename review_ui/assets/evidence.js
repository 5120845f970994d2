/** Why a sample is in the queue: one sentence, trusted examples to compare with, its history. */

import { VERDICTS, usualChoice } from "./choice.js";
import { make, write } from "./dom.js";
import { pictureAddress } from "./pictures.js";

const AFTER_MS = 60;
const KEPT = 60;
const EXAMPLE_PX = 160;
const HISTORY_SHOWN = 20;

export class Evidence {
  constructor({ part, server, name }) {
    Object.assign(this, { part, server, name });
    this.known = new Map();
    this.sample = null;
    this.isHistoryWanted = false;
    part.historyToggle.addEventListener("click", (event) => {
      event.preventDefault();
      this.toggleHistory();
    });
  }

  /** Another reviewer, run or store may say other things; what is on its way is not taken in. */
  forget() {
    this.known = new Map();
    this.sample = null;
    clearTimeout(this.timer);
  }

  /** Shows what is known at once, and asks for the rest when the keys pause. */
  show(sample, following) {
    const isSame = this.sample?.sample_id === sample.sample_id;
    this.sample = sample;
    const known = this.known.get(keyOf(sample));
    if (known) this.fill(known);
    else if (!isSame) this.clear();
    if (!isSame) this.part.history.open = this.isHistoryWanted || sample.is_disputed;
    this.part.historyList.replaceChildren();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.ask(sample, following), AFTER_MS);
  }

  async ask(sample, following) {
    if (this.part.history.open) this.showHistory();
    try {
      const found = await this.of(sample);
      if (this.sample === sample) this.fill(found);
      if (this.sample === sample && following) await this.of(following);
    } catch (error) {
      if (this.sample === sample) write(this.part.sentence, error.message);
    }
  }

  async of(sample) {
    const { known } = this;
    const key = keyOf(sample);
    if (!known.has(key)) {
      known.set(key, await this.server.get(`/samples/${sample.sample_id}/evidence`));
      if (known.size > KEPT) known.delete(known.keys().next().value);
    }
    return known.get(key);
  }

  clear() {
    this.part.sentence.textContent = "";
    for (const strip of ["givenExamples", "suggestedExamples", "nearest"])
      this.part[strip].replaceChildren();
    this.part.nearestLabel.textContent = "";
  }

  fill({ sentence, given, suggested, nearest, has_neighbours: hasNeighbours }) {
    write(this.part.sentence, sentence);
    // The run's examples are of the label that it knew, which may be another by now.
    const isOfUsual = this.sample.scored_label === usualChoice(this.sample).label;
    this.strip(this.part.givenExamples, isOfUsual ? given : []);
    this.strip(this.part.suggestedExamples, suggested);
    this.strip(this.part.nearest, nearest);
    write(this.part.nearestLabel, hasNeighbours ? "Nearest trusted images, and their labels" : "");
    this.part.why.classList.toggle("desk-without-neighbours", !hasNeighbours);
    this.part.decide.classList.toggle("desk-without-neighbours", !hasNeighbours);
  }

  strip(element, examples) {
    element.replaceChildren(...examples.map((example) => this.example(example)));
  }

  example(example) {
    const name = this.name(example.label);
    const picture = make("img", "desk-example");
    picture.src = pictureAddress(example, EXAMPLE_PX);
    picture.alt = `trusted as ${name}`;
    picture.title = `${name}: ${example.file_name}`;
    picture.dataset.as = this.relation(example.label);
    const item = make("li");
    item.append(picture);
    return item;
  }

  relation(label) {
    if (label === this.sample.given_label) return "given";
    return label === this.sample.suggested_label ? "suggested" : "other";
  }

  // ---- history --------------------------------------------------------------------------------

  /** Opens or closes it, for the images that follow, too. */
  async toggleHistory() {
    const { sample } = this;
    const { history, historyList } = this.part;
    this.isHistoryWanted = !history.open;
    history.open = this.isHistoryWanted;
    if (!history.open) return;
    await this.showHistory();
    if (this.sample === sample) historyList.scrollIntoView({ block: "nearest" });
  }

  async showHistory() {
    const { sample } = this;
    const list = this.part.historyList;
    try {
      const { events } = await this.server.get(`/samples/${sample.sample_id}/history`);
      if (this.sample !== sample) return;
      const rows = events
        .slice(-HISTORY_SHOWN)
        .reverse()
        .map((event) => this.event(event));
      list.replaceChildren(...(rows.length ? rows : [make("li", "", "Nothing yet")]));
    } catch (error) {
      if (this.sample === sample) list.replaceChildren(make("li", "", error.message));
    }
  }

  event(event) {
    const row = make("li", event.is_live ? "" : "desk-taken-back");
    const words = { note: `note: ${event.note || "taken away"}`, undo: "undo", redo: "redo" };
    const label = event.label === null ? "" : ` ${this.name(event.label)}`;
    const said =
      event.kind === "decision" ? `${VERDICTS[event.verdict]}${label}` : words[event.kind];
    const when = new Date(event.decided_at).toLocaleString([], {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const who = [event.reviewer, event.is_blind ? "blind" : "", `round ${event.round}`, when];
    row.append(make("span", "", said), make("small", "", who.filter(Boolean).join(", ")));
    return row;
  }
}

/** What is said of a sample that is decided blind is another thing than what is said afterwards. */
function keyOf({ sample_id: id, p_clean: pClean }) {
  return pClean === null ? `${id} blind` : `${id}`;
}
