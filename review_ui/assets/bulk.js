/** One verdict for all that match the filter: asked for with their number, applied as one step. */

import { counted, countedImages, newUid } from "./dom.js";

const DRAIN_MS = 5000;
const TIMEOUT_MS = 120_000;

const WORDS = {
  standing: "stay as they were decided",
  keep: "keep the given label",
  suggested: "take the suggested label",
  relabel: "get the label",
  exclude: "be excluded from the curated set",
  both: "be marked as showing the suggested class, too",
  unsure: "be marked as unsure",
};

export class Bulk {
  /** onApplied(answer): it is done, and the queue is another one now. */
  constructor(desk, { onApplied }) {
    this.desk = desk;
    this.part = desk.part;
    this.onApplied = onApplied;
    this.part.bulkForm.addEventListener("change", () => this.count());
    this.part.bulkForm.addEventListener("submit", (event) => this.apply(event));
    this.part.bulkCancel.addEventListener("click", () => this.part.bulkDialog.close());
    this.part.bulkClass.addEventListener("click", () => this.choose());
  }

  get verdict() {
    return this.part.bulkForm.elements.verdict.value;
  }

  get filter() {
    const { filter } = this.desk.view.state;
    const isSuggestion = ["suggested", "both"].includes(this.verdict);
    return isSuggestion ? { ...filter, has_suggestion: true } : filter;
  }

  open() {
    this.label = null;
    const isSecondLook = this.desk.view.state.filter.name === "second look";
    this.part.bulkForm.reset();
    this.part.bulkStay.hidden = !isSecondLook;
    if (isSecondLook) this.part.bulkForm.elements.verdict.value = "standing";
    this.part.bulkClass.textContent = "choose";
    this.part.bulkFilter.textContent = `Queue: ${this.desk.filters.inWords(this.desk.view.state.filter)}`;
    this.part.bulkDialog.showModal();
    this.count();
  }

  choose() {
    this.part.bulkForm.elements.verdict.value = "relabel";
    this.count(); // Setting it by script is no "change".
    this.desk.picker.open({
      title: "One class for all of them",
      onPick: (label) => {
        this.label = label;
        this.part.bulkClass.textContent = this.desk.name(label);
        this.count();
      },
    });
  }

  /** Asks how many there are, once the server knows every decision of this page. */
  async count(problem = "") {
    this.part.bulkProblem.textContent = problem;
    const { verdict, filter } = this;
    const asked = {};
    this.asked = asked;
    this.part.bulkGo.disabled = true;
    this.uid = newUid();
    try {
      if (!(await this.desk.ledger.outbox.drained(DRAIN_MS)))
        throw new Error("Some decisions are not saved yet. Try again.");
      const counts = await this.desk.server.post("/count", { filter });
      if (this.asked === asked) this.show(counts, verdict);
    } catch (error) {
      if (this.asked === asked) this.part.bulkProblem.textContent = error.message;
    }
  }

  show(
    { n_matching: n, n_undecided: nUndecided, n_leased: nLeased, counted_at: countedAt },
    verdict,
  ) {
    this.n = n;
    this.countedAt = countedAt;
    const decided = n - nUndecided;
    const name =
      verdict === "relabel" && this.label !== null ? ` ${this.desk.name(this.label)}` : "";
    const again =
      decided > 0 && verdict !== "standing"
        ? ` ${counted(decided)} of them are decided already and will be decided anew.`
        : "";
    const held =
      nLeased > 0 ? ` ${counted(nLeased)} of them are with other reviewers at the moment.` : "";
    this.part.bulkTitle.textContent = `Apply to all ${counted(n)}`;
    this.part.bulkSays.textContent = `${countedImages(n)} will ${WORDS[verdict]}${name}.${again}${held} You need not see them. It is one step, which undo takes back.`;
    this.part.bulkGo.textContent = `Apply to all ${counted(n)}`;
    this.part.bulkGo.disabled = n === 0 || (verdict === "relabel" && this.label === null);
  }

  async apply(event) {
    event.preventDefault();
    const { verdict, label, filter, n, countedAt, uid, desk } = this;
    this.part.bulkGo.disabled = true;
    try {
      const { store, run } = desk.session;
      const body = { store, run, uid, filter, verdict, n, counted_at: countedAt };
      if (verdict === "relabel") body.label = label;
      const answer = await desk.server.post("/apply", body, TIMEOUT_MS);
      this.part.bulkDialog.close();
      this.onApplied(answer);
    } catch (error) {
      if (error.refused) return this.count(error.message);
      // Whether it was done is not known; the same uid makes trying again harmless.
      this.part.bulkProblem.textContent = `${error.message} Try again: it is never done twice.`;
      this.part.bulkGo.disabled = false;
    }
    return undefined;
  }
}
