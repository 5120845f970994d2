/**
 * Grid mode: pages of thumbnails in which keeping is the default. Wrong ones are marked and given
 * a class or verdict; one key then confirms the page as one step.
 */

import { isUsual, mayDecide, settled, suggestedBeside, usualChoice } from "./choice.js";
import { counted, countedImages, write } from "./dom.js";
import { Pictures } from "./pictures.js";
import { makeTile, paintTile } from "./tile.js";

const THUMBNAIL_PX = 320;
const KEPT_PICTURES = 900;
const LOADING = "Some images are still loading";
const HOW_TO =
  "Click, or drag over, what is wrong; the rest stays as it is. Under each image: its label, the suggestion, the probability that the label is right.";

export class Grid {
  constructor(desk) {
    this.desk = desk;
    this.part = desk.part;
    this.pictures = new Pictures({
      px: THUMBNAIL_PX,
      keep: KEPT_PICTURES,
      className: "desk-thumbnail",
      onSettled: (address) => this.onSettled(address),
    });
    this.forget();
    this.sight = new IntersectionObserver((entries) => this.onSight(entries), { threshold: 0.5 });
    this.listen();
  }

  /** Another reviewer, run or store begins without marks. */
  forget() {
    this.marked = new Set();
    this.plans = new Map();
    this.seen = new Set();
    this.tiles = new Map();
    this.anchor = null;
    this.drawn = null;
  }

  get queue() {
    return this.desk.queue;
  }

  get size() {
    return this.desk.view.state.page_size;
  }

  get start() {
    return Math.floor(this.queue.at / this.size) * this.size;
  }

  get page() {
    return this.queue.samples.slice(this.start, this.start + this.size);
  }

  // ---- showing ------------------------------------------------------------------------------

  show() {
    const { page } = this;
    const shown = [...this.tiles.keys()];
    const isSame =
      page.length === shown.length && page.every((one, i) => one.sample_id === shown[i]);
    if (!isSame) this.build(page);
    this.paint();
    const end = this.start + this.size;
    this.pictures.warm(this.queue.samples.slice(end, end + this.size));
  }

  build(page) {
    this.sight.disconnect();
    this.tiles = new Map(page.map((sample) => [sample.sample_id, makeTile(sample)]));
    this.part.tiles.dataset.size = this.size;
    this.part.pageSize.value = this.size;
    this.part.tiles.replaceChildren(...this.tiles.values());
    for (const tile of this.tiles.values()) this.sight.observe(tile);
    this.say("");
  }

  paint() {
    for (const sample of this.page) this.paintOne(sample);
    const cursor = this.tiles.get(this.queue.sample?.sample_id);
    this.part.tiles.setAttribute("aria-activedescendant", cursor?.id ?? "");
    this.showConfirm();
    const last = Math.min(this.start + this.size, this.queue.samples.length);
    write(this.part.pageText, `${counted(this.start + 1)} to ${counted(last)}`);
  }

  paintOne(sample) {
    paintTile(this.tiles.get(sample.sample_id), sample, {
      ...this.stateOf(sample),
      isCursor: sample === this.queue.sample,
      picture: this.pictures.of(sample),
      pictureState: this.pictures.state(sample),
      name: (label) => this.desk.name(label),
    });
  }

  stateOf(sample) {
    const id = sample.sample_id;
    const plan = this.plans.get(id);
    if (plan) return { kind: "planned", text: this.planText(plan) };
    if (this.marked.has(id)) return { kind: "marked", text: "which class?" };
    const isOpen = !sample.isDone && (!sample.verdict || sample.is_second_look);
    return isOpen ? { kind: "open", text: "" } : { kind: "done", text: this.desk.describe(sample) };
  }

  planText({ verdict, label }) {
    return label === null || verdict === "both" ? verdict : this.desk.name(label);
  }

  showConfirm() {
    const due = this.due();
    const nChanged = due.filter((one) => this.plans.has(one.sample_id)).length;
    const nUnseen = this.unseen(due).length;
    const nMarked = due.filter((one) => this.marked.has(one.sample_id)).length;
    const nStay = due.filter((one) => one.is_second_look && !this.plans.has(one.sample_id)).length;
    const parts = [
      [due.length - nChanged - nStay, "keep"],
      [nStay, "stay with"],
      [nChanged, "change"],
    ].filter(([n]) => n > 0);
    const isAll = parts.length === 1 && nChanged === 0;
    const said = parts.map(([n, word]) => `${word} ${isAll ? "all " : ""}${n}`).join(", ");
    const texts = [
      [nMarked > 0, `${nMarked} marked: choose what they are`],
      [nUnseen > 0, `Show the rest first (${nUnseen})`],
      [due.length === 0, "Next page"],
      [true, capitalised(said)],
    ];
    write(this.part.confirmText, texts.find(([holds]) => holds)[1]);
  }

  /** Says what is in the way, or how it is done when nothing is. */
  say(problem) {
    this.said = problem;
    this.part.gridNote.classList.toggle("desk-warning", Boolean(problem));
    write(this.part.gridNote, problem || HOW_TO);
  }

  onSight(entries) {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) this.seen.add(Number(target.dataset.id));
    }
    this.showConfirm();
  }

  onSettled(address) {
    if (this.desk.root.dataset.view !== "grid") return;
    const isIt = (one) => this.pictures.addressOf(one) === address;
    const sample = this.page.find((one) => this.tiles.has(one.sample_id) && isIt(one));
    if (sample) this.paintOne(sample);
    if (this.said === LOADING && !this.isLoading(this.due())) this.say("");
  }

  // ---- marking ------------------------------------------------------------------------------

  /** Marks, or with `isMarked` false takes mark and plan away; what was in the way may be no more. */
  mark(sample, isMarked) {
    const id = sample.sample_id;
    this.say("");
    if (isMarked && !this.plans.has(id)) this.marked.add(id);
    if (!isMarked) {
      this.marked.delete(id);
      this.plans.delete(id);
    }
  }

  isMarked({ sample_id: id }) {
    return this.marked.has(id) || this.plans.has(id);
  }

  toggle(sample) {
    this.mark(sample, !this.isMarked(sample));
    this.anchor = sample;
    this.paint();
  }

  toggleAll() {
    const due = this.due();
    const isMarked = !due.every((one) => this.isMarked(one));
    for (const one of due) this.mark(one, isMarked);
    this.paint();
  }

  /** Marks everything between the last mark and this sample. */
  markTo(sample) {
    const { page } = this;
    const from = Math.max(page.indexOf(this.anchor), 0);
    const to = page.indexOf(sample);
    for (const one of page.slice(Math.min(from, to), Math.max(from, to) + 1)) this.mark(one, true);
    this.paint();
  }

  /** The marked ones, or the one under the cursor if none is marked. */
  get chosen() {
    const marked = this.page.filter((one) => this.marked.has(one.sample_id));
    return marked.length > 0 ? marked : [this.queue.sample].filter(Boolean);
  }

  /** Plans something for the chosen ones, or for those that were chosen when it was asked for. */
  plan(choose, samples = this.chosen) {
    let nWithout = 0;
    for (const sample of samples) {
      const plan = choose(sample);
      if (!plan) nWithout += 1;
      else if (isUsual(plan, sample)) this.mark(sample, false);
      else {
        this.marked.delete(sample.sample_id);
        this.plans.set(sample.sample_id, settled(plan, sample));
      }
    }
    this.say(nWithout > 0 ? `${countedImages(nWithout)} without a suggestion: give a class` : "");
    this.paint();
  }

  planSuggestions() {
    this.plan(({ suggested_label: label }) =>
      label === null ? null : { verdict: "relabel", label },
    );
  }

  planRank(rank) {
    this.plan(({ top_labels: labels }) =>
      rank < labels.length ? { verdict: "relabel", label: labels[rank] } : null,
    );
  }

  /** The other class is the suggested one; where there is none it is asked for. */
  planBoth() {
    const { chosen } = this;
    const plan = (other) =>
      this.plan((sample) => ({ verdict: "both", label: suggestedBeside(sample) ?? other }), chosen);
    const nWithout = chosen.filter((one) => suggestedBeside(one) === null).length;
    if (nWithout === 0) plan(null);
    else
      this.desk.picker.open({
        title: `Which other class: ${countedImages(nWithout)} without a suggestion`,
        onPick: plan,
      });
  }

  planOther() {
    const { chosen } = this;
    this.desk.picker.open({
      title: "Which class are the marked ones?",
      onPick: (label) => this.plan(() => ({ verdict: "relabel", label }), chosen),
    });
  }

  /** Shows the plans of a step that was taken back, so that one of them can be mended. */
  restore(step) {
    for (const { sample, after, label } of step.changes) {
      const plan = { verdict: after.verdict, label };
      if (plan.verdict && !isUsual(plan, sample)) this.plans.set(sample.sample_id, plan);
    }
  }

  // ---- confirming ---------------------------------------------------------------------------

  /** What the page still decides: the open ones, and those that are to be decided anew. */
  due() {
    return this.page.filter((one) => this.isMarked(one) || this.stateOf(one).kind === "open");
  }

  isLoading(due) {
    return due.some((one) => this.pictures.state(one) === "loading");
  }

  unseen(due) {
    return due.filter((one) => !this.seen.has(one.sample_id));
  }

  /** Decides the page, unless something on it was not seen or is not chosen yet. */
  confirm() {
    const due = this.due();
    const undecided = due.find((one) => this.marked.has(one.sample_id));
    if (undecided) {
      this.reveal(undecided);
      return this.say(
        "Say what the marked images are: S their suggestions, / one class, B, X or U",
      );
    }
    if (this.isLoading(due)) return this.say(LOADING);
    const [unseen] = this.unseen(due);
    if (unseen) return this.reveal(unseen);
    const there = due.filter((one) => mayDecide(this.choiceFor(one), this.pictures.state(one)));
    if (there.length < due.length)
      this.desk.announce(
        `${countedImages(due.length - there.length)} could not be loaded and stay undecided`,
      );
    if (there.length === 0 && due.length > 0)
      return this.say("These images cannot be seen: only X and U decide them");
    return this.decide(there);
  }

  choiceFor(sample) {
    return this.plans.get(sample.sample_id) ?? usualChoice(sample);
  }

  decide(samples) {
    const end = this.start + this.size;
    const choices = samples.map((sample) => ({ sample, ...this.choiceFor(sample) }));
    const nChanged = samples.filter(({ sample_id: id }) => this.plans.delete(id)).length;
    if (choices.length > 0) {
      this.desk.noteStep(this.desk.ledger.decide(choices));
      this.desk.announce(`left ${choices.length - nChanged} as they were, changed ${nChanged}`);
    }
    this.desk.go(this.queue.openFrom(end));
    scrollTo({ top: 0 });
    return undefined;
  }

  /** Scrolls so that the sample is the first that is seen. */
  reveal(sample) {
    this.tiles.get(sample.sample_id).scrollIntoView({ block: "start" });
  }

  // ---- moving -------------------------------------------------------------------------------

  move(key, isRange) {
    const { page } = this;
    const by = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.nColumns(),
      ArrowDown: this.nColumns(),
    }[key];
    const from = this.queue.at - this.start;
    const to = Math.min(Math.max(from + by, 0), page.length - 1);
    if (isRange)
      for (const one of page.slice(Math.min(from, to), Math.max(from, to) + 1))
        this.mark(one, true);
    this.anchor = page[to];
    this.queue.at = this.start + to;
    this.paint();
    this.tiles.get(page[to].sample_id).scrollIntoView({ block: "nearest" });
    this.desk.keepPlace();
  }

  nColumns() {
    const tops = [...this.tiles.values()].map((tile) => tile.offsetTop);
    const n = tops.findIndex((top) => top > tops[0]);
    return n < 0 ? tops.length : n;
  }

  turn(by) {
    const to = this.start + by * this.size;
    if (to >= 0 && (to < this.queue.samples.length || this.queue.next !== null)) this.desk.go(to);
  }

  // ---- the pointer --------------------------------------------------------------------------

  listen() {
    const { tiles } = this.part;
    tiles.addEventListener("pointerdown", (event) => this.onDown(event));
    tiles.addEventListener("pointerover", (event) => this.onOver(event));
    addEventListener("pointerup", () => (this.drawn = null), { signal: this.desk.leaving.signal });
    // A finger scrolls, so it marks by a tap only; so does a screen reader.
    tiles.addEventListener("click", (event) => {
      const sample = this.sampleAt(event);
      if (sample && event.pointerType !== "mouse") this.toggle(sample);
    });
  }

  sampleAt(event) {
    const id = event.target.closest(".desk-tile")?.dataset.id;
    return id === undefined ? null : this.queue.find(Number(id));
  }

  onDown(event) {
    const sample = this.sampleAt(event);
    if (!sample || event.pointerType !== "mouse" || event.button !== 0) return;
    event.preventDefault();
    this.queue.at = this.queue.samples.indexOf(sample);
    if (event.shiftKey) return this.markTo(sample);
    this.toggle(sample);
    this.drawn = this.isMarked(sample);
    return undefined;
  }

  /** With the button held, every tile on the way becomes as the first one did. */
  onOver(event) {
    if (this.drawn === null || event.buttons !== 1 || event.shiftKey) return;
    const sample = this.sampleAt(event);
    if (!sample || this.isMarked(sample) === this.drawn) return;
    this.mark(sample, this.drawn);
    this.paint();
  }
}

function capitalised(text) {
  return text.slice(0, 1).toUpperCase() + text.slice(1);
}
