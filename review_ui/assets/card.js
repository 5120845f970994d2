/** Card mode: one image, its labels, the classes that it resembles, and why it is in the queue. */

import { isUsual, mayDecide, suggestedBeside, usualChoice } from "./choice.js";
import { fraction, make, percent, write } from "./dom.js";
import { Evidence } from "./evidence.js";
import { Pictures } from "./pictures.js";
import { Zoom } from "./zoom.js";

const PREVIEW_PX = 1024;
const PREFETCH = 8;
const KEPT_PICTURES = 40;
const MOST_OTHERS = 5;

export class Card {
  /** The desk tells which samples there are, decides, and describes what was decided. */
  constructor(desk) {
    this.desk = desk;
    this.part = desk.part;
    this.zoom = new Zoom(this.part.stage);
    this.evidence = new Evidence({
      part: this.part,
      server: desk.server,
      name: (label) => desk.name(label),
    });
    this.pictures = new Pictures({
      px: PREVIEW_PX,
      keep: KEPT_PICTURES,
      className: "desk-picture",
      onSettled: (address) => this.isShown(address) && this.showPicture(),
    });
  }

  get sample() {
    return this.desk.queue.sample;
  }

  show() {
    this.showPicture();
    this.showLabels();
    this.showWhy();
    this.warm();
  }

  warm() {
    const { samples, at } = this.desk.queue;
    const ahead = samples
      .slice(at + 1, at + 200)
      .filter((one) => !one.isDone)
      .slice(0, PREFETCH);
    this.pictures.warm(ahead);
    const following = ahead[0] ?? null;
    this.evidence.show(this.sample, following);
  }

  // ---- the picture --------------------------------------------------------------------------

  showPicture() {
    const { sample } = this;
    if (sample !== this.shown) this.zoom.reset();
    this.shown = sample;
    const picture = this.pictures.of(sample);
    picture.alt = `${sample.file_name}, given label ${this.desk.name(sample.given_label)}`;
    if (picture.parentElement !== this.part.stage) {
      this.part.stage.replaceChildren(picture, this.part.pictureNote);
    }
    this.showPictureState();
    this.part.file.textContent = sample.file_name;
    this.part.file.title = sample.file_name;
    this.part.badge.hidden = !sample.verdict;
    this.part.badge.textContent = sample.verdict ? this.desk.describe(sample) : "";
    this.part.doubleBadge.hidden = !sample.is_double;
    this.part.disputedBadge.hidden = !sample.is_disputed;
  }

  isShown(address) {
    if (!this.sample || this.desk.root.dataset.view !== "card") return false;
    return this.pictures.addressOf(this.sample) === address;
  }

  showPictureState() {
    const state = this.pictures.state(this.sample);
    this.part.stage.dataset.picture = state;
    this.say(state === "loading" ? "" : this.pictureWords(this.sample));
  }

  pictureWords(sample) {
    return {
      there: "",
      loading: "The image is still loading",
      broken: "The image cannot be loaded, retrying",
      unreadable: `${this.pictures.problem(sample)} Only X and U decide it.`,
    }[this.pictures.state(sample)];
  }

  say(text) {
    this.part.pictureNote.textContent = text;
  }

  /** Whether it may be decided; if not, the picture's place says why. */
  mayDecide(sample, choice) {
    const isFree = mayDecide(choice, this.pictures.state(sample));
    if (!isFree) this.say(this.pictureWords(sample));
    return isFree;
  }

  // ---- deciding -----------------------------------------------------------------------------

  decide(choice, sample = this.sample) {
    const { ledger, queue } = this.desk;
    if (!this.mayDecide(sample, choice)) return;
    const isStay = sample.is_second_look && isUsual(choice, sample);
    this.desk.noteStep(ledger.decide([{ sample, ...choice }]));
    this.desk.announce(
      isStay ? `stayed with ${this.desk.describeUsual(sample)}` : this.desk.describe(sample),
    );
    this.desk.go(sample === queue.sample ? queue.openFrom(queue.at + 1) : queue.at);
  }

  decideUsual() {
    this.decide(usualChoice(this.sample));
  }

  takeSuggestion() {
    const { suggested_label: label } = this.sample;
    if (label === null) this.desk.announce("There is no suggestion");
    else this.decide({ verdict: "relabel", label });
  }

  takeRank(rank) {
    const label = this.sample.top_labels[rank];
    if (label !== undefined) this.decide({ verdict: "relabel", label });
  }

  takeOther() {
    this.pick("relabel", "Which class is it?");
  }

  /** The given and the suggested label, or the given one and another that is asked for. */
  takeBoth() {
    const label = suggestedBeside(this.sample);
    if (label === null) this.pick("both", "Which class does it show, too?");
    else this.decide({ verdict: "both", label });
  }

  /** The class is for the sample that was shown when it was asked for. */
  pick(verdict, title) {
    const { sample } = this;
    if (!this.mayDecide(sample, { verdict })) return;
    const { label: usual } = usualChoice(sample);
    const taken = verdict === "both" ? sample.given_label : usual;
    const near = [usual, sample.given_label, ...sample.top_labels];
    this.desk.picker.open({
      title,
      first: near.filter((label) => label !== taken),
      onPick: (label) => this.decide({ verdict, label }, sample),
    });
  }

  // ---- labels -------------------------------------------------------------------------------

  showLabels() {
    const { sample, desk } = this;
    const hasSuggestion = sample.suggested_label !== null;
    const usual = desk.describeUsual(sample);
    const given = desk.name(sample.given_label);
    write(this.part.givenTitle, sample.is_second_look ? "Reviewed label" : "Given label");
    this.part.given.textContent = usual;
    write(this.part.givenNote, sample.is_second_look ? `Stay with ${usual}` : "Keep it");
    this.part.suggested.textContent = hasSuggestion ? desk.name(sample.suggested_label) : "none";
    const why = sample.p_clean === null ? "not shown" : "the model agrees on the class";
    this.part.suggestedNote.textContent = hasSuggestion ? "Take it" : why;
    desk.button("suggestion").disabled = !hasSuggestion;
    this.part.noteText.textContent = sample.note ?? "";
    write(
      this.part.spoken,
      [
        sample.file_name,
        `given label ${given}`,
        ...(sample.is_second_look ? [`reviewed label ${usual}`] : []),
        `suggested label ${this.part.suggested.textContent}`,
      ].join(", "),
    );
    this.showClasses();
  }

  /** The usual label first, then the five nearest others: always as many rows, so nothing moves. */
  showClasses() {
    const { sample } = this;
    const { classes } = this.part;
    const focused = classes.contains(document.activeElement) && document.activeElement.dataset.rank;
    const { label } = usualChoice(sample);
    const usual = this.classRow({ key: "K", label, ...this.simsOf(label) });
    const top = sample.top_labels.map((label, rank) =>
      this.classRow({
        key: `${rank + 1}`,
        rank,
        label,
        pos: sample.top_pos_sims[rank],
        neg: sample.top_neg_sims[rank],
      }),
    );
    const [least, greatest] = this.desk.session.similarity_range.map((one) => one.toFixed(3));
    this.part.classesCaption.title = `The bars reach from ${least} to ${greatest}, the least and the greatest similarity of any training image to a prompt of its label.`;
    const nOthers = Math.min(MOST_OTHERS, this.desk.session.classes.length - 1);
    const blanks = Array.from({ length: Math.max(0, nOthers - top.length) }, () =>
      make("li", "desk-class-blank"),
    );
    blanks.forEach((blank) => blank.setAttribute("aria-hidden", "true"));
    classes.replaceChildren(usual, ...top, ...blanks);
    if (focused) classes.querySelector(`[data-rank="${focused}"]`)?.focus();
  }

  /** The similarities of a label that the run scored, nothing of another one. */
  simsOf(label) {
    const { scored_label, pos_sim, neg_sim } = this.sample;
    return scored_label === label && pos_sim !== null ? { pos: pos_sim, neg: neg_sim } : {};
  }

  classRow({ key, rank = "usual", label, pos, neg }) {
    const name = this.desk.name(label);
    const button = make("button", "desk-button desk-class");
    button.type = "button";
    button.dataset.act = rank === "usual" ? "keep" : "class";
    button.dataset.rank = rank;
    const nameElement = make("span", "desk-class-name", name);
    nameElement.dir = "auto";
    button.append(make("kbd", "", key), nameElement);
    if (label === this.sample.given_label)
      button.append(make("em", "desk-class-given", "given"));
    else if (rank === "usual") button.append(make("em", "desk-class-given", "reviewed"));
    if (pos !== undefined) {
      button.append(
        this.bars(pos, neg),
        make("span", "desk-class-sim", pos.toFixed(3)),
        make("span", "desk-class-sim", neg.toFixed(3)),
      );
      button.title = `${name}: ${pos.toFixed(3)} to the positive, ${neg.toFixed(3)} to the negative prompt`;
    }
    const row = make("li");
    row.append(button);
    return row;
  }

  bars(pos, neg) {
    const range = this.desk.session.similarity_range;
    const bars = make("span", "desk-class-bars");
    for (const [kind, value] of [
      ["positive", pos],
      ["negative", neg],
    ]) {
      const bar = make("i", `desk-class-bar desk-${kind}`);
      bar.style.setProperty("--share", fraction(value, range));
      bars.append(bar);
    }
    return bars;
  }

  // ---- why ----------------------------------------------------------------------------------

  showWhy() {
    const { sample, desk } = this;
    const isHidden = sample.p_clean === null;
    const why = `Why it is ${sample.is_clean ? "believed" : "flagged"}`;
    write(this.part.whyHeading, isHidden ? "A second opinion" : why);
    this.part.clean.textContent = percent(sample.p_clean);
    desk.root.style.setProperty("--clean", sample.p_clean ?? 0);
    desk.root.style.setProperty("--threshold", desk.session.clean_threshold);
    write(this.part.threshold, `flagged up to ${percent(desk.session.clean_threshold)}`);
    this.part.cleanMeter.dataset.clean = sample.is_clean;
    const isGiven = sample.scored_label === sample.given_label;
    const label = isGiven ? "the given label" : desk.name(sample.scored_label);
    write(this.part.cleanOf, `probability that ${label} is right`);
    this.part.changes.hidden = sample.changes.length === 0;
    this.part.changes.replaceChildren(...sample.changes.map((text) => make("li", "", text)));
    this.part.changes.dataset.secondLook = sample.is_second_look;
  }
}
