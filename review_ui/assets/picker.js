/** Type-ahead over all class names in a dialog; thousands of them are searched at each letter. */

import { counted, make } from "./dom.js";

const LISTED = 200;

export class Picker {
  constructor(part) {
    this.part = part;
    this.names = [];
    part.query.addEventListener("input", () => this.list());
    part.query.addEventListener("keydown", (event) => this.onKey(event));
    part.options.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.take(option);
    });
  }

  set classes(names) {
    this.names = names;
    this.folded = names.map((name) => name.toLowerCase());
  }

  /** Asks for a class; `first` are offered before the others. */
  open({ title, first = [], onPick }) {
    this.onPick = onPick;
    this.ranked = [...new Set([...first, ...this.names.keys()])];
    this.part.pickerTitle.textContent = title;
    this.part.query.value = "";
    this.list();
    this.part.picker.showModal();
  }

  /** Lists the classes whose name holds what was typed; those that start with it come first. */
  list() {
    const typed = this.part.query.value.trim().toLowerCase();
    const starting = [];
    const holding = [];
    for (const label of this.ranked) {
      const place = this.folded[label].indexOf(typed);
      if (place === 0) starting.push(label);
      else if (place > 0) holding.push(label);
    }
    const matching = [...starting, ...holding];
    this.part.options.replaceChildren(
      ...matching.slice(0, LISTED).map((label, i) => this.option(label, i)),
    );
    const hidden = Math.max(0, matching.length - LISTED);
    this.part.more.textContent = hidden ? `and ${counted(hidden)} more: type on` : "";
    this.highlight(0);
  }

  option(label, i) {
    const option = make("li", "desk-option", this.names[label]);
    option.id = `desk-option-${i}`;
    option.dir = "auto";
    option.setAttribute("role", "option");
    option.dataset.label = label;
    return option;
  }

  highlight(index) {
    const { children } = this.part.options;
    children[this.highlighted]?.setAttribute("aria-selected", "false");
    this.highlighted = Math.min(Math.max(index, 0), children.length - 1);
    const option = children[this.highlighted];
    option?.setAttribute("aria-selected", "true");
    this.part.query.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }

  onKey(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      this.highlight(this.highlighted + move);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      const option = this.part.options.children[this.highlighted];
      if (option && !event.repeat) this.take(option);
    }
  }

  take(option) {
    this.part.picker.close();
    this.onPick(Number(option.dataset.label));
  }
}
