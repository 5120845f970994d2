/**
 * The review desk: one image at a time, one key a decision.
 *
 * A decision shows at once and travels through the outbox; the next images are decoded before
 * they are asked for. Text of the data set reaches the page through `textContent` only.
 */

import { Outbox } from "./outbox.js";
import { Scatter } from "./scatter.js";

const API = "/api/v1";
const PAGE = 50;
const LOAD_WHEN_LEFT = 25;
const PREFETCH = 8;
const KEPT_PICTURES = 40;
const LISTED_CLASSES = 200;
const RETRY_MS = 2000;
const POST_TIMEOUT_MS = 10_000;
const PLOT_AFTER_MS = 80;
const PACE_WINDOW_MS = 3 * 60 * 1000;

const VERDICTS = {
  keep: "kept",
  relabel: "relabelled",
  both: "both",
  exclude: "excluded",
  unsure: "unsure",
};

/** Starts a desk in the element that holds its HTML; the desk is idle while it is not visible. */
export function mount(element) {
  const desk = new Desk(element.querySelector(".desk"));
  const onSight = ([entry]) => {
    if (!entry.isIntersecting) return;
    desk.root.focus({ preventScroll: true });
    desk.wake();
  };
  new IntersectionObserver(onSight).observe(desk.root);
}

class Desk {
  constructor(root) {
    this.root = root;
    this.part = Object.fromEntries(
      [...root.querySelectorAll("[data-part]")].map((one) => [one.dataset.part, one]),
    );
    this.session = null;
    this.outbox = null;
    this.pictures = new Map();
    this.scatter = new Scatter(this.part.scatter, { onPick: (id) => this.look(id) });
    this.reset();
    this.listen();
  }

  reset() {
    this.cards = [];
    this.at = 0;
    this.next = null;
    this.isLoading = false;
    this.history = [];
    this.takenBack = new Map();
    this.times = [];
    this.hasPoints = false;
  }

  // ---- loading ------------------------------------------------------------------------------

  /** Called whenever the desk becomes visible; tries again for as long as it is. */
  async wake() {
    if (this.isWaking || !this.isVisible) return;
    this.isWaking = true;
    try {
      await this.refresh();
    } catch (error) {
      const text = `${error.message} Trying again.`;
      if (!this.card) this.showMessage("error", "The queue could not be loaded", text);
      setTimeout(() => this.wake(), RETRY_MS);
    } finally {
      this.isWaking = false;
    }
  }

  /** A new run or a new data set starts the desk afresh; otherwise it stays where it is. */
  async refresh() {
    const session = await getJson("/session");
    const before = this.session;
    const isSame = before?.store === session.store && before?.run === session.run;
    if (isSame && this.outbox.size > 0) session.progress = before.progress;
    this.session = session;
    if (isSame && this.cards.length > 0) return;
    this.openOutbox();
    this.reset();
    if (!session.run) return this.showEmpty();
    this.outbox.pump();
    await this.load();
    this.show(this.firstUndecided());
  }

  openOutbox() {
    const { store } = this.session;
    if (this.outbox?.store === store) return;
    this.outbox?.close();
    this.outbox = new Outbox({
      store,
      send: (items) => postJson("/decisions", { store, items }),
      onState: (state, n) => this.showSaved(state, n),
      onAnswer: (answer, items) => this.onAnswer(answer, items),
      onRefused: (problem, item) => this.onRefused(problem, item),
    });
  }

  async load() {
    const after = this.next ? `&after=${encodeURIComponent(this.next)}` : "";
    const waitingBefore = this.waiting(); // They may arrive after the server has read the queue.
    const page = await getJson(`/queue?limit=${PAGE}${after}`);
    const shown = this.cards.map((card) => card.sample_id);
    const known = new Set([...shown, ...waitingBefore, ...this.waiting()]);
    this.cards.push(...page.samples.filter((sample) => !known.has(sample.sample_id)));
    this.next = page.next;
  }

  /** Samples that the outbox holds a decision about, although the server does not know it yet. */
  waiting() {
    const decided = new Map();
    for (const { item } of this.outbox.entries) {
      if (item.type === "decide") decided.set(item.group, item.sample_id);
      else decided.delete(item.group);
    }
    return new Set(decided.values());
  }

  async loadMore() {
    const ahead = this.cards.filter((card, i) => i > this.at && !card.verdict).length;
    if (ahead >= LOAD_WHEN_LEFT || !this.next || this.isLoading) return;
    this.isLoading = true;
    try {
      await this.load();
    } catch {
      setTimeout(() => this.loadMore(), RETRY_MS);
      return;
    } finally {
      this.isLoading = false;
    }
    if (this.card) this.prefetch();
    else this.show(this.firstUndecided());
  }

  async drawPoints() {
    if (this.hasPoints) return;
    this.hasPoints = true;
    try {
      const answer = await fetch(`${API}/points`);
      if (answer.ok) await this.scatter.draw(await answer.arrayBuffer());
    } catch {
      this.part.scatter.textContent = "The plot could not be drawn.";
    }
  }

  // ---- deciding -----------------------------------------------------------------------------

  get isVisible() {
    return this.root.isConnected && this.root.offsetParent !== null;
  }

  get card() {
    return this.cards[this.at] ?? null;
  }

  decide(verdict, label = null, card = this.card) {
    if (!card || this.root.dataset.view !== "card" || !this.mayDecide(card)) return;
    if (verdict === "relabel" && label === card.given_label) [verdict, label] = ["keep", null];
    const uid = newUid();
    this.clearsRefusal ??= uid;
    this.history.push({ uid, card, verdict: card.verdict, label: card.reviewed_label });
    this.count(card, +1);
    card.verdict = verdict;
    card.reviewed_label = verdict === "keep" ? card.given_label : label;
    this.times.push(Date.now());
    this.announce(this.describe(card));
    this.outbox.add({ type: "decide", uid, group: uid, sample_id: card.sample_id, verdict, label });
    this.show(card === this.card ? this.nextUndecided() : this.at);
  }

  /** Nothing is decided about a picture that is not there to be seen. */
  mayDecide(card) {
    if (this.outbox.state === "elsewhere") return false;
    if (isThere(this.pictures.get(card.sample_id))) return true;
    this.notePicture(card.isBroken ? "The image cannot be loaded, retrying" : "The image is still loading");
    return false;
  }

  /** Takes back the last decision: at once if this page made it, else when the server answers. */
  undo() {
    if (!this.outbox) return;
    const last = this.history.pop();
    const uid = newUid();
    if (last) {
      last.card.verdict = last.verdict;
      last.card.reviewed_label = last.label;
      this.count(last.card, -1);
      this.times.pop();
      this.takenBack.set(last.uid, last.card.sample_id);
      this.announce("undone");
    }
    this.outbox.add({ type: "undo", uid, group: last ? last.uid : null });
    if (last) this.show(this.cards.indexOf(last.card));
  }

  takeSuggestion() {
    const label = this.card?.suggested_label;
    if (label === null) this.announce("There is no suggestion");
    else if (label !== undefined) this.decide("relabel", label);
  }

  takeClass(rank) {
    const label = this.card?.top_labels[rank];
    if (label !== undefined) this.decide("relabel", label);
  }

  /** Keeps the shown progress right until the server's own figures arrive. */
  count(card, change) {
    const progress = this.session.progress;
    if (card.verdict || card.p_clean > 0.5) return;
    progress.n_decided += change;
    progress.n_left -= change;
  }

  onAnswer(answer, items) {
    if (this.outbox.size === 0) this.session.progress = answer.progress;
    if (items.some((item) => item.uid === this.clearsRefusal)) this.part.refusal.hidden = true;
    const undos = items.filter((item) => item.type === "undo");
    answer.undone.forEach((sampleIds, i) => this.afterUndo(sampleIds, undos[i].group));
    this.showProgress();
    if (this.root.dataset.view === "done") this.showDone();
  }

  /** What counts now may be another page's decision, so the server is asked. */
  async afterUndo(sampleIds, group) {
    if (group === null && sampleIds.length === 0) return this.announce("Nothing to undo");
    if (group === null) return this.look(sampleIds[0]);
    const shown = this.takenBack.get(group);
    this.takenBack.delete(group);
    const ids = new Set(shown === undefined ? sampleIds : [shown, ...sampleIds]);
    for (const id of ids) await this.update(id);
  }

  /** The server will never take this item, so the desk goes back to what the server knows. */
  async onRefused(problem, item) {
    const card = this.cards.find((one) => one.sample_id === item.sample_id);
    this.refuse(problem, card?.file_name);
    this.history = this.history.filter(({ uid }) => uid !== item.uid);
    const session = await getJson("/session").catch(() => this.session);
    if (session.store === this.session.store) this.session.progress = session.progress;
    if (card) await this.update(item.sample_id);
    this.showProgress();
  }

  // ---- moving -------------------------------------------------------------------------------

  firstUndecided() {
    const i = this.cards.findIndex((card) => !card.verdict);
    return i < 0 ? this.cards.length : i;
  }

  nextUndecided() {
    const i = this.cards.findIndex((card, index) => index > this.at && !card.verdict);
    return i < 0 ? this.firstUndecided() : i;
  }

  step(by) {
    const to = Math.min(Math.max(this.at + by, 0), this.cards.length - 1);
    if (to >= 0) this.show(to);
  }

  /** Goes to the sample with this id, whether or not it is in the queue, unless a dialog is open. */
  async look(id) {
    await this.update(id);
    const i = this.cards.findIndex((card) => card.sample_id === id);
    if (i >= 0 && !document.querySelector("dialog[open]")) this.show(i);
  }

  /**
   * Brings one card to what the server knows, in its place or before the shown one, which stays.
   * A decision on its way to the server is newer than what the server knows.
   */
  async update(id) {
    try {
      const fresh = await getJson(`/samples/${id}`);
      const card = this.cards.find((one) => one.sample_id === id);
      if (!card) this.cards.splice(this.at++, 0, fresh);
      else if (!this.waiting().has(id)) Object.assign(card, fresh);
    } catch (error) {
      return this.refuse({ message: "The image could not be looked up.", hint: error.message });
    }
    const isShown = this.card?.sample_id === id;
    if (isShown) this.show(this.at);
    else if (this.root.dataset.view === "done") this.show(this.firstUndecided());
  }

  // ---- showing ------------------------------------------------------------------------------

  show(index) {
    this.at = index;
    if (!this.card && this.next) {
      this.showMessage("loading", "Loading the queue", "");
      this.loadMore();
      return;
    }
    if (!this.card) return this.showDone();
    this.root.dataset.view = "card";
    this.showPicture();
    this.showLabels();
    this.showEvidence();
    this.showProgress();
    this.prefetch();
    this.loadMore();
  }

  showPicture() {
    const card = this.card;
    const picture = this.picture(card);
    picture.alt = `${card.file_name}, given label ${this.name(card.given_label)}`;
    this.part.stage.replaceChildren(picture, this.part.pictureNote);
    this.showPictureState();
    this.part.file.textContent = card.file_name;
    this.part.file.title = card.file_name;
    this.part.badge.hidden = !card.verdict;
    this.part.badge.textContent = card.verdict ? this.describe(card) : "";
  }

  showLabels() {
    const card = this.card;
    const hasSuggestion = card.suggested_label !== null;
    this.part.given.textContent = this.name(card.given_label);
    this.part.suggested.textContent = hasSuggestion ? this.name(card.suggested_label) : "none";
    this.part.suggestedNote.textContent = hasSuggestion ? "Take it" : "the model agrees on the class";
    this.button("suggestion").disabled = !hasSuggestion;
    const { classes } = this.part;
    const focused = classes.contains(document.activeElement) && document.activeElement.dataset.rank;
    classes.replaceChildren(...card.top_labels.map((label, rank) => this.classRow(label, rank)));
    if (focused) classes.querySelector(`[data-rank="${focused}"]`)?.focus();
  }

  classRow(label, rank) {
    const card = this.card;
    const sims = card.top_pos_sims;
    const share = fraction(sims[rank], this.session.similarity_range);
    const button = make("button", "desk-button desk-class");
    button.type = "button";
    button.dataset.act = "class";
    button.dataset.rank = rank;
    const bar = make("span", "desk-class-bar");
    bar.style.setProperty("--share", share);
    const name = make("span", "desk-class-name", this.name(label));
    if (label === card.given_label) name.append(make("em", "", "given"));
    button.append(make("kbd", "", `${rank + 1}`), name, bar, make("span", "desk-class-sim", sims[rank].toFixed(3)));
    const row = make("li");
    row.append(button);
    return row;
  }

  showEvidence() {
    const card = this.card;
    const range = this.session.similarity_range;
    this.part.whyHeading.textContent = `Why it is ${card.p_clean > 0.5 ? "believed" : "flagged"}`;
    this.part.clean.textContent = percent(card.p_clean);
    this.root.style.setProperty("--clean", card.p_clean);
    this.root.style.setProperty("--positive", fraction(card.pos_sim, range));
    this.root.style.setProperty("--negative", fraction(card.neg_sim, range));
    this.part.positive.textContent = card.pos_sim.toFixed(3);
    this.part.negative.textContent = card.neg_sim.toFixed(3);
    this.part.sentence.textContent = sentence(card, this.name(card.given_label));
    // The plot takes longer than the rest: it follows when the keys pause.
    clearTimeout(this.plotTimer);
    this.plotTimer = setTimeout(() => this.showPoint(), PLOT_AFTER_MS);
  }

  async showPoint() {
    await this.drawPoints();
    if (this.card) this.scatter.mark(this.card);
  }

  showProgress() {
    const { n_flagged, n_decided, n_left } = this.session.progress;
    const { track, fill, decided, left, pace } = this.part;
    track.setAttribute("aria-valuemax", n_flagged);
    track.setAttribute("aria-valuenow", n_decided);
    fill.style.width = `${n_flagged ? (100 * n_decided) / n_flagged : 100}%`;
    decided.textContent = `${counted(n_decided)} of ${counted(n_flagged)} suspects decided`;
    left.textContent = `${counted(n_left)} left`;
    pace.textContent = this.pace(n_left);
  }

  /** Decisions a minute over the last few minutes, and what that means for the rest. */
  pace(nLeft) {
    const now = Date.now();
    this.times = this.times.filter((time) => now - time < PACE_WINDOW_MS);
    const minutes = (now - this.times[0]) / 60000;
    if (this.times.length < 3 || minutes === 0 || nLeft === 0) return "";
    const rate = (this.times.length - 1) / minutes;
    const rest = Math.ceil(nLeft / rate);
    return `${Math.round(rate)} a minute, about ${rest} min to go`;
  }

  showSaved(state, n) {
    const texts = {
      saved: "Saved",
      saving: n > 1 ? `Saving ${n}` : "Saving",
      retrying: `NOT SAVED: ${n} waiting, retrying`,
      elsewhere: `NOT SAVED: ${n} waiting. Another workspace is open here. Reload the page.`,
    };
    this.part.saved.dataset.state = state;
    // A steady "Saved" is not written again, so that a screen reader stays quiet.
    if (this.part.saved.textContent !== texts[state]) this.part.saved.textContent = texts[state];
  }

  showEmpty() {
    const hasData = this.session.classes.length > 0;
    this.showMessage(
      "empty",
      hasData ? "No suspects yet" : "No images yet",
      hasData
        ? "Phase 1 has to score the images before there is a queue. Start it on the Detect tab; it runs in the background."
        : "Bring in a folder or a CSV file of labelled images on the Overview tab first.",
      [hasData ? ["Go to Detect", "detect"] : ["Go to Overview", "overview"]],
    );
    setTimeout(() => this.wake(), RETRY_MS);
  }

  showDone() {
    const { by_verdict, n_flagged } = this.session.progress;
    this.showMessage(
      "done",
      n_flagged ? "Every suspect is decided" : "Nothing was flagged",
      n_flagged
        ? "The curated set is ready: fine-tune a classifier on it, or export the labels."
        : "Phase 1 believes every given label. You can export the labels as they are.",
      [
        ["Adapt a model", "adapt"],
        ["Export the labels", "export"],
      ],
    );
    this.part.messageCounts.hidden = this.outbox.size > 0; // Until then they lag behind.
    this.part.messageCounts.replaceChildren(
      ...Object.entries(VERDICTS).map(([verdict, word]) => {
        const pair = make("div");
        pair.append(make("dd", "", counted(by_verdict[verdict] ?? 0)), make("dt", "", word));
        return pair;
      }),
    );
    const undo = make("button", "desk-button", "Undo the last one");
    undo.type = "button";
    undo.dataset.act = "undo";
    this.part.messageActions.append(undo);
    this.showProgress();
  }

  showMessage(view, title, text, actions = []) {
    this.root.dataset.view = view;
    this.part.messageTitle.textContent = title;
    this.part.messageText.textContent = text;
    this.part.messageCounts.hidden = true;
    this.part.messageActions.replaceChildren(
      ...actions.map(([label, tab], i) => {
        const button = make("button", `desk-button ${i === 0 ? "desk-primary" : ""}`, label);
        button.type = "button";
        button.addEventListener("click", () => openTab(tab));
        return button;
      }),
    );
  }

  /** Stays until it is closed, or a decision made after it is confirmed. */
  refuse({ message, hint }, fileName = "") {
    this.clearsRefusal = null;
    const text = [message, hint].filter(Boolean).join(" ");
    this.part.refusalText.textContent = fileName ? `${fileName}: ${text}` : text;
    this.part.refusal.hidden = false;
  }

  announce(text) {
    this.part.announcer.textContent = text;
  }

  describe(card) {
    const label = card.verdict === "relabel" ? ` ${this.name(card.reviewed_label)}` : "";
    return `${VERDICTS[card.verdict]}${label}`;
  }

  name(label) {
    return this.session.classes[label];
  }

  // ---- pictures -----------------------------------------------------------------------------

  picture(card) {
    const kept = this.pictures.get(card.sample_id);
    if (kept) return kept;
    const picture = new Image();
    picture.decoding = "sync";
    picture.className = "desk-picture";
    picture.src = `/images/${card.sample_id}?v=${card.version}`;
    this.pictures.set(card.sample_id, picture);
    this.settle(card, picture);
    return picture;
  }

  /** A picture that did not come is asked for anew: now and then while shown, else when needed. */
  async settle(card, picture) {
    card.isBroken = await picture.decode().then(() => false, () => true);
    if (card.isBroken && this.pictures.get(card.sample_id) === picture) {
      this.pictures.delete(card.sample_id);
    }
    if (this.card !== card) return;
    this.showPictureState();
    if (card.isBroken) setTimeout(() => this.card === card && this.showPicture(), RETRY_MS);
  }

  showPictureState() {
    const card = this.card;
    const isSeen = isThere(this.pictures.get(card.sample_id));
    this.part.stage.dataset.picture = isSeen ? "there" : card.isBroken ? "broken" : "loading";
    this.notePicture(!isSeen && card.isBroken ? "The image cannot be loaded, retrying" : "");
  }

  notePicture(text) {
    this.part.pictureNote.textContent = text;
  }

  prefetch() {
    this.cards
      .filter((card, i) => i > this.at && !card.verdict)
      .slice(0, PREFETCH)
      .forEach((card) => this.picture(card));
    for (const id of this.pictures.keys()) {
      if (this.pictures.size <= KEPT_PICTURES) break;
      if (id !== this.card?.sample_id) this.pictures.delete(id);
    }
  }

  // ---- keys and buttons -----------------------------------------------------------------------

  listen() {
    const actions = {
      keep: () => this.decide("keep"),
      suggestion: () => this.takeSuggestion(),
      class: (button) => this.takeClass(Number(button.dataset.rank)),
      other: () => this.openPicker(),
      both: () => this.decide("both"),
      exclude: () => this.decide("exclude"),
      unsure: () => this.decide("unsure"),
      undo: () => this.undo(),
      back: () => this.step(-1),
      forward: () => this.step(+1),
      help: () => this.part.help.showModal(),
      dismiss: () => (this.part.refusal.hidden = true),
    };
    this.root.addEventListener("click", (event) => {
      const button = event.target.closest("[data-act]");
      if (button) actions[button.dataset.act](button);
    });
    // A clicked button does not take the focus, or the next Space would press it again.
    this.root.addEventListener("mousedown", (event) => {
      if (event.target.closest("button")) event.preventDefault();
    });
    const onKey = (event) => {
      if (!this.root.isConnected) document.removeEventListener("keydown", onKey);
      else this.onKey(event, actions);
    };
    document.addEventListener("keydown", onKey);
    this.part.query.addEventListener("input", () => this.filterClasses());
    this.part.query.addEventListener("keydown", (event) => this.onPickerKey(event));
    this.part.options.addEventListener("click", (event) => {
      const option = event.target.closest("[role=option]");
      if (option) this.pick(option);
    });
  }

  onKey(event, actions) {
    const target = event.target;
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
    if (!this.isVisible || document.querySelector("dialog[open]")) return;
    if (target.closest("input, textarea, select, [contenteditable]")) return;
    const act = KEYS[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    const isDigit = event.key >= "1" && event.key <= "5" && event.key.length === 1;
    if (!act && !isDigit) return;
    // A held key decides once, on a button too.
    if (event.repeat && act !== "back" && act !== "forward") return event.preventDefault();
    // Somebody who reached a button with Tab means that button.
    const isPress = event.key === " " || event.key === "Enter";
    if (isPress && target.closest("button, a") && target.matches(":focus-visible")) return;
    event.preventDefault();
    if (isDigit) this.takeClass(Number(event.key) - 1);
    else actions[act]();
  }

  button(act) {
    return this.root.querySelector(`[data-act="${act}"]`);
  }

  // ---- the class picker -----------------------------------------------------------------------

  openPicker() {
    if (this.root.dataset.view !== "card" || !this.mayDecide(this.card)) return;
    this.picked = this.card;
    this.part.query.value = "";
    this.filterClasses();
    this.part.picker.showModal();
  }

  /** Lists the classes whose name holds what was typed; those that start with it come first. */
  filterClasses() {
    const typed = this.part.query.value.trim().toLowerCase();
    const ranked = [...new Set([...this.picked.top_labels, ...this.session.classes.keys()])];
    const place = (label) => this.name(label).toLowerCase().indexOf(typed);
    const matching = ranked.filter((label) => place(label) >= 0);
    matching.sort((a, b) => Number(place(a) > 0) - Number(place(b) > 0));
    this.part.options.replaceChildren(
      ...matching.slice(0, LISTED_CLASSES).map((label, i) => {
        const option = make("li", "desk-option", this.name(label));
        option.id = `desk-option-${i}`;
        option.setAttribute("role", "option");
        option.dataset.label = label;
        return option;
      }),
    );
    this.highlight(0);
  }

  highlight(index) {
    const options = [...this.part.options.children];
    this.highlighted = Math.min(Math.max(index, 0), options.length - 1);
    options.forEach((option, i) => option.setAttribute("aria-selected", i === this.highlighted));
    const option = options[this.highlighted];
    this.part.query.setAttribute("aria-activedescendant", option?.id ?? "");
    option?.scrollIntoView({ block: "nearest" });
  }

  onPickerKey(event) {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (move) {
      event.preventDefault();
      this.highlight(this.highlighted + move);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (event.repeat) return;
      const option = this.part.options.children[this.highlighted];
      if (option) this.pick(option);
    }
  }

  pick(option) {
    this.part.picker.close();
    this.root.focus({ preventScroll: true });
    this.decide("relabel", Number(option.dataset.label), this.picked);
  }
}

const KEYS = {
  " ": "keep",
  k: "keep",
  Enter: "suggestion",
  "/": "other",
  b: "both",
  x: "exclude",
  u: "unsure",
  z: "undo",
  ArrowLeft: "back",
  ArrowRight: "forward",
  "?": "help",
};

// ---- small pure functions -----------------------------------------------------------------------

function sentence({ pos_sim, neg_sim, p_clean }, name) {
  if (p_clean > 0.5) return `Closer to the positive prompt of ${name}: probably ${name}.`;
  if (pos_sim === neg_sim) return `As close to the negative prompt of ${name} as to the positive.`;
  return `Closer to the negative prompt of ${name}: probably not ${name}.`;
}

/** Whether a picture has come and can be seen. */
function isThere(picture) {
  return picture !== undefined && picture.complete && picture.naturalWidth > 0;
}

function fraction(value, [low, high]) {
  return high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0;
}

function counted(number) {
  return number.toLocaleString("en");
}

function percent(value) {
  if (value > 0 && value < 0.01) return "<1 %";
  return `${Math.round(value * 100)} %`;
}

function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

function openTab(name) {
  document.getElementById(`${name}-tab-button`)?.click();
}

function newUid() {
  // crypto.randomUUID exists on https and localhost only.
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

function getJson(path) {
  return answered(fetch(API + path));
}

function postJson(path, body) {
  return answered(
    fetch(API + path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(POST_TIMEOUT_MS),
    }),
  );
}

/**
 * The answer's JSON. An error carries `refused` when our own server found the request itself
 * unacceptable, or `isAnotherStore` when it serves another store; whatever else answers in its
 * place, a proxy say, refuses nothing.
 */
async function answered(request) {
  const response = await request.catch(() => {
    throw new Error("The server does not answer.");
  });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  if (typeof problem?.message !== "string") throw new Error(`HTTP ${response.status}.`);
  const error = new Error([problem.message, problem.hint].filter(Boolean).join(" "));
  if (problem.is_another_store) error.isAnotherStore = true;
  else if (response.status === 409 || response.status === 422) error.refused = problem;
  throw error;
}
