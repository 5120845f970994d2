/** The filter of the queue: its dialog, the chips that show what is in use, and its words. */

import { VERDICTS } from "./choice.js";
import { afterPause, counted, countedImages, inPercent, make, makeButton, percent } from "./dom.js";
import { asked } from "./view.js";

const COUNT_AFTER_MS = 250;
const NAMES = {
  suspects: "suspects",
  new: "new this round",
  "second look": "second look",
  disagreements: "disagreements",
  all: "all images",
};

export class Filters {
  /** onChange(filter): the reviewer wants to see these. */
  constructor(desk, { onChange }) {
    this.desk = desk;
    this.part = desk.part;
    this.onChange = onChange;
    this.form = this.part.filterForm.elements;
    this.countLater = afterPause(() => this.count(), COUNT_AFTER_MS);
    this.listen();
  }

  listen() {
    this.part.verdictBoxes.append(
      ...Object.entries(VERDICTS).map(([verdict, word]) => verdictBox(verdict, word)),
    );
    this.part.filterForm.addEventListener("input", () => this.countLater());
    this.part.filterForm.addEventListener("submit", () => this.onChange(this.read()));
    this.part.filterClear.addEventListener("click", () => {
      const { name } = this.filter;
      this.fill(asked({ name: name ?? null }));
    });
    this.part.queueName.addEventListener("change", () => {
      this.onChange({ ...this.desk.view.state.filter, name: this.part.queueName.value });
      this.desk.focus();
    });
  }

  /** Shows which queue is open and a chip for every other condition, which a click takes away. */
  showChips() {
    const { filter } = this.desk.view.state;
    this.part.queueName.value = filter.name ?? "suspects";
    const chips = this.conditions(filter).map(([text, without]) => {
      const chip = makeChip(text, () => this.onChange(without));
      chip.setAttribute("aria-label", `Remove the filter: ${text}`);
      return chip;
    });
    this.part.chips.hidden = chips.length === 0;
    this.part.chips.replaceChildren(...chips);
  }

  /** Each condition in words, with the filter that is left without it. */
  conditions(filter) {
    const without = (...keys) =>
      Object.fromEntries(Object.entries(filter).filter(([key]) => !keys.includes(key)));
    const names = (labels) => labels.map((label) => this.desk.name(label)).join(", ");
    const found = [];
    const add = (text, ...keys) => found.push([text, without(...keys)]);
    if (filter.split) add(`${filter.split} images`, "split");
    if (filter.given) add(`given ${names(filter.given)}`, "given");
    if (filter.suggested) add(`suggested ${names(filter.suggested)}`, "suggested");
    if (filter.has_suggestion !== undefined)
      add(filter.has_suggestion ? "with a suggestion" : "without a suggestion", "has_suggestion");
    if (filter.p_min !== undefined || filter.p_max !== undefined) {
      add(`clean ${percent(filter.p_min ?? 0)} to ${percent(filter.p_max ?? 1)}`, "p_min", "p_max");
    }
    if (filter.is_decided !== undefined)
      add(filter.is_decided ? "decided" : "undecided", "is_decided");
    if (filter.is_flagged !== undefined)
      add(filter.is_flagged ? "flagged" : "believed", "is_flagged");
    if (filter.verdicts) add(filter.verdicts.map((one) => VERDICTS[one]).join(", "), "verdicts");
    if (filter.reviewers) add(`by ${filter.reviewers.join(", ")}`, "reviewers");
    if (filter.text) add(`path holds ${filter.text}`, "text");
    if (filter.sample_ids)
      add(`${countedImages(filter.sample_ids.length)} chosen in the plot`, "sample_ids");
    return found;
  }

  /** The whole filter in words. */
  inWords(filter) {
    const conditions = this.conditions(filter).map(([text]) => text);
    return [NAMES[filter.name ?? "suspects"], ...conditions].join("; ");
  }

  // ---- the dialog ---------------------------------------------------------------------------

  open() {
    this.fill(this.desk.view.state.filter);
    this.part.filterDialog.showModal();
  }

  fill(filter) {
    this.filter = filter;
    const { form } = this;
    for (const key of ["split", "has_suggestion", "is_decided", "is_flagged"])
      form[key].value = filter[key] ?? "";
    for (const key of ["p_min", "p_max"])
      form[key].value = filter[key] === undefined ? "" : inPercent(filter[key]);
    form.text.value = filter.text ?? "";
    form.reviewers.value = (filter.reviewers ?? []).join(", ");
    for (const box of this.part.verdictBoxes.querySelectorAll("input")) {
      box.checked = filter.verdicts?.includes(box.value) ?? false;
    }
    this.given = filter.given ?? [];
    this.suggested = filter.suggested ?? [];
    this.showLabels();
    this.count();
  }

  showLabels() {
    for (const [key, part] of [
      ["given", "givenLabels"],
      ["suggested", "suggestedLabels"],
    ]) {
      const drop = (label) => {
        this[key] = this[key].filter((one) => one !== label);
        this.showLabels();
        this.count();
      };
      const chips = this[key].map((label) => makeChip(this.desk.name(label), () => drop(label)));
      const more = makeButton(chips.length ? "or" : "any: choose", () => this.addLabel(key));
      this.part[part].replaceChildren(...chips, more);
    }
  }

  addLabel(key) {
    this.desk.picker.open({
      title: key === "given" ? "Given label" : "Suggested label",
      onPick: (label) => {
        this[key] = [...new Set([...this[key], label])];
        this.showLabels();
        this.count();
      },
    });
  }

  /** The filter that the form describes. */
  read() {
    const { form } = this;
    const flag = (key) => (form[key].value === "" ? null : form[key].value === "true");
    const share = (key) =>
      form[key].value === "" ? null : Math.min(Math.max(Number(form[key].value) / 100, 0), 1);
    const list = (values) => (values.length > 0 ? values : null);
    const boxes = [...this.part.verdictBoxes.querySelectorAll("input:checked")];
    const names = form.reviewers.value.split(",").map((one) => one.trim());
    return asked({
      name: this.filter.name ?? null,
      sample_ids: this.filter.sample_ids ?? null,
      split: form.split.value || null,
      given: list(this.given),
      suggested: list(this.suggested),
      has_suggestion: flag("has_suggestion"),
      p_min: share("p_min"),
      p_max: share("p_max"),
      is_decided: flag("is_decided"),
      is_flagged: flag("is_flagged"),
      verdicts: list(boxes.map((box) => box.value)),
      reviewers: list(names.filter(Boolean)),
      text: form.text.value.trim() || null,
    });
  }

  /** Says how many match what the form describes at this moment. */
  async count() {
    const filter = this.read();
    this.counted = filter;
    const text = await this.desk.server.post("/count", { filter }).then(
      ({ n_matching: n, n_undecided: open }) => `${countedImages(n)}, ${counted(open)} undecided`,
      (error) => error.message,
    );
    if (this.counted === filter) this.part.filterCount.textContent = text;
  }
}

/** A button that takes away what it names, of which a long name is cut short. */
function makeChip(text, onClick) {
  const chip = makeButton("", onClick, "desk-button desk-chip");
  const words = make("span", "desk-ellipsis", text);
  words.dir = "auto";
  chip.append(words, make("span", "", "×"));
  return chip;
}

function verdictBox(verdict, word) {
  const label = make("label");
  const box = make("input");
  box.type = "checkbox";
  box.value = verdict;
  label.append(box, ` ${word}`);
  return label;
}
