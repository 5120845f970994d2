/**
 * The review desk: one queue, seen as cards, as pages of a grid, or in plots; one key a decision.
 *
 * A decision shows at once and travels through the outbox; the next images are decoded before
 * they are asked for. Text of the data set reaches the page through `textContent` only.
 */

import { listen } from "./acts.js";
import { Bulk } from "./bulk.js";
import { Card } from "./card.js";
import { VERDICTS, usualChoice } from "./choice.js";
import { partsOf, write } from "./dom.js";
import { Filters } from "./filters.js";
import { Grid } from "./grid.js";
import { Ledger } from "./ledger.js";
import { Messages } from "./messages.js";
import { RETRY_MS, Server } from "./net.js";
import { NoteDialog } from "./note.js";
import { Picker } from "./picker.js";
import { Plots } from "./plots.js";
import { Queue } from "./queue.js";
import { Reviewers } from "./reviewers.js";
import { showProgress, showSaved } from "./status.js";
import { View } from "./view.js";

const LOAD_WHEN_LEFT = 15;
const CARDS_AT_ONCE = 30;
const LOOK_AGAIN_MS = 5000;
const DRAIN_MS = 1500;

/** Starts a desk in the element that holds its HTML; the desk is idle while it is not visible. */
export function mount(element) {
  const desk = new Desk(element.querySelector(".desk"));
  const sight = new IntersectionObserver(([entry]) => {
    if (!desk.root.isConnected) {
      sight.disconnect();
      desk.leave();
    } else if (entry.isIntersecting) {
      desk.focus();
      desk.wake();
    }
  });
  sight.observe(desk.root);
  // Not when the window gets the focus: the click that gives it may decide what is shown by then.
  const onVisible = () => document.hidden || desk.wake();
  document.addEventListener("visibilitychange", onVisible, { signal: desk.leaving.signal });
}

class Desk {
  constructor(root) {
    this.root = root;
    this.part = partsOf(root);
    this.session = null;
    this.isPlots = false;
    this.leaving = new AbortController();
    this.server = new Server({ onOther: () => this.follow() });
    this.view = new View({
      server: this.server,
      session: () => this.session,
      signal: this.leaving.signal,
    });
    this.messages = new Messages(root, this.part);
    this.ledger = new Ledger({
      server: this.server,
      onSaved: (...saved) => showSaved(this.part, ...saved),
      onProgress: () => this.showProgress(),
      onConfirmed: (items) => this.onConfirmed(items),
      onStale: (ids) => this.onStale(ids),
      onFar: (ids) => this.look(ids[0]),
      onRefused: (problem, ids) => this.onRefused(problem, ids),
      onLeft: (n, isKept) => this.onLeft(n, isKept),
      announce: (text) => this.announce(text),
    });
    this.queue = new Queue({
      server: this.server,
      waiting: () => this.ledger.waiting(),
      drained: () => this.ledger.outbox.drained(DRAIN_MS),
    });
    this.picker = new Picker(this.part);
    this.card = new Card(this);
    this.grid = new Grid(this);
    this.plots = new Plots(this, {
      onQueue: (filter) => this.leavePlots(() => this.openQueue({ filter })),
      onLook: (id) => this.leavePlots(() => this.look(id)),
    });
    this.filters = new Filters(this, {
      onChange: (filter) => this.leavePlots(() => this.openQueue({ filter })),
    });
    this.bulk = new Bulk(this, { onApplied: (answer) => this.onApplied(answer) });
    this.reviewers = new Reviewers(this, {
      onChange: (name, released) => this.onReviewer(name, released),
      onShare: () => this.openQueue({}),
    });
    this.notes = new NoteDialog(this.part, {
      onSave: (sample, text) => {
        this.ledger.note(sample, text);
        this.announce("note kept");
        this.show();
      },
    });
    listen(this);
  }

  /** It is off the page: it listens and asks no more, but still sends what is not saved. */
  leave() {
    this.view.keepLater.flush();
    this.leaving.abort();
    if (this.ledger.outbox?.size === 0) this.ledger.outbox.close();
  }

  later(act, ms) {
    setTimeout(() => this.leaving.signal.aborted || act(), ms);
  }

  // ---- loading ------------------------------------------------------------------------------

  get isVisible() {
    return this.root.isConnected && this.root.offsetParent !== null;
  }

  /** Called whenever somebody comes to the desk; tries again for as long as it is visible. */
  async wake() {
    if (this.isWaking || !this.isVisible) return;
    this.isWaking = true;
    try {
      await this.start();
      if (!this.session) this.later(() => this.wake(), 0); // Forgotten while its queue came.
    } catch (error) {
      if (!this.queue.sample) {
        this.messages.outOfReach(error);
      }
      this.later(() => this.wake(), RETRY_MS);
    } finally {
      this.isWaking = false;
    }
  }

  /** A new store, run or reviewer starts the desk afresh; otherwise it stays where it is. */
  async start() {
    const { reviewer } = this.server;
    const session = await this.server.get("/session");
    if (this.server.reviewer !== reviewer) throw new Error("Another reviewer goes on here.");
    const before = this.session;
    const isSame = ["store", "run", "reviewer"].every((key) => before?.[key] === session[key]);
    if (before && !isSame) this.forget();
    this.session = session;
    this.server.run = `${session.store}/${session.run ?? ""}`;
    this.ledger.open(session);
    this.picker.classes = session.classes;
    this.reviewers.showName(session.reviewer);
    if (isSame && this.queue.sample) return this.catchUp();
    if (!session.run) return this.waitForRun();
    await this.view.load();
    if (this.session !== session) throw new Error("The server has other scores by now.");
    const { after, sample_id: sampleId } = this.view.state;
    return this.openQueue({ after, sampleId, isQuiet: isSame });
  }

  /** Takes in what was decided in another window; what was open here and is no more is passed. */
  async catchUp() {
    const { queue } = this;
    const { sample } = queue;
    const open = queue.samples.filter((one) => !one.isDone);
    const isOpen = open.includes(sample);
    await queue.refresh(open.map((one) => one.sample_id));
    const isPassed = isOpen && sample.isDone && sample === queue.sample;
    if (isPassed && !document.querySelector("dialog[open]")) queue.at = queue.openFrom(queue.at);
    return this.isPlots ? this.showProgress() : this.show();
  }

  waitForRun() {
    this.messages.empty(this.session.classes.length > 0);
    this.later(() => this.wake(), RETRY_MS);
  }

  /** For another store, run or reviewer nothing holds that is shown or known here. */
  forget() {
    this.view.keepLater.flush();
    this.session = null;
    this.server.run = null;
    for (const one of [this.grid, this.card.evidence, this.plots, this.ledger]) one.forget();
    this.queue.close();
    this.show();
    this.focus();
  }

  async onReviewer(name, released) {
    this.forget();
    this.server.reviewer = name;
    await released;
    return this.wake();
  }

  /** Goes on with the store and run that the server has now; not under an open dialog. */
  follow() {
    if (!this.server.isOther || document.querySelector("dialog[open]")) return;
    this.forget();
    this.announce("other scores: the queue begins anew");
    this.wake();
  }

  /**
   * Opens a queue, which the view keeps: at its start, or behind a place and at a sample. Nothing of
   * the former one can be decided while it comes, nor is it shown, but for its end when `isQuiet`.
   */
  async openQueue({ after = null, sampleId = null, isQuiet = false, ...changes }) {
    if (!this.session) return undefined;
    this.view.change(changes);
    const { filter, sort, seed } = this.view.state;
    this.part.sort.value = sort;
    this.filters.showChips();
    const opened = this.queue.open({ filter, sort, seed, after, limit: this.atOnce });
    if (!isQuiet) this.show();
    try {
      if (!(await opened)) return undefined;
    } catch (error) {
      return this.onClosedQueue(error, { after, sampleId });
    }
    const place = this.queue.indexOf(sampleId);
    this.go(place >= 0 ? place : this.queue.openFrom(0));
    if ([this.root, document.body].includes(document.activeElement)) this.focus();
    return undefined;
  }

  /** A place that is no longer one is left; what else is refused is for the reviewer to mend. */
  onClosedQueue(error, place) {
    const { asked } = this.queue;
    if (!error.refused) {
      this.messages.outOfReach(error);
      this.later(() => this.queue.asked === asked && this.openQueue(place), RETRY_MS);
    } else if (place.after !== null) {
      this.openQueue({});
    } else {
      this.messages.show("error", "This queue cannot be opened", error.message, [
        ["All suspects", () => this.openQueue({ filter: {} })],
      ]);
    }
  }

  /** Few at once, because what is loaded is leased and nobody else gets it. */
  get atOnce() {
    return this.view.state.mode === "grid"
      ? Math.max(this.grid.size, CARDS_AT_ONCE)
      : CARDS_AT_ONCE;
  }

  /** Loads on when little is left, so that nobody waits. */
  async loadMore() {
    const { queue } = this;
    const isGrid = this.view.state.mode === "grid";
    const isEnough = isGrid
      ? queue.samples.length >= this.grid.start + 2 * this.grid.size
      : queue.nAhead >= LOAD_WHEN_LEFT;
    if (isEnough || queue.next === null || queue.loading) return;
    try {
      await queue.more(this.atOnce);
    } catch (error) {
      if (error.refused) this.refuse(error.refused);
      this.later(() => this.loadMore(), RETRY_MS);
      return;
    }
    if (!queue.sample) this.go(queue.openFrom(0));
    else if (isGrid || this.root.dataset.view === "loading") this.show();
    else this.card.warm();
    this.loadMore();
  }

  // ---- moving -------------------------------------------------------------------------------

  go(index) {
    this.queue.at = index;
    this.show();
  }

  step(by) {
    const to = Math.min(Math.max(this.queue.at + by, 0), this.queue.samples.length - 1);
    if (to >= 0) this.go(to);
  }

  /** Goes to the sample with this id, whether or not it is in the queue, unless a dialog is open. */
  async look(id) {
    try {
      await this.queue.fetch(id);
    } catch (error) {
      return this.refuse({ message: "The image could not be looked up.", hint: error.message });
    }
    const place = this.queue.indexOf(id);
    if (place < 0 || document.querySelector("dialog[open]")) return this.show();
    return this.go(place);
  }

  setMode(mode) {
    if (!this.session?.run) return;
    this.isPlots = mode === "plots";
    if (!this.isPlots) this.view.change({ mode });
    this.show();
    this.focus();
  }

  async leavePlots(then) {
    this.isPlots = false;
    await then();
    this.focus();
  }

  keepPlace() {
    const { sample } = this.queue;
    if (sample) this.view.change({ sample_id: sample.sample_id, after: sample.after });
  }

  // ---- showing ------------------------------------------------------------------------------

  show() {
    const { mode } = this.view.state;
    this.showModes(this.isPlots ? "plots" : mode);
    if (!this.session) {
      this.messages.show("loading", "Loading the queue");
    } else if (this.isPlots) {
      this.root.dataset.view = "plots";
      this.plots.show();
    } else if (this.queue.sample) {
      this.root.dataset.view = mode;
      this[mode].show();
      this.keepPlace();
      this.loadMore();
    } else if (this.queue.next !== null || !this.queue.isOpen) {
      this.messages.show("loading", "Loading the queue");
      this.loadMore();
    } else this.showEnd();
    this.showProgress();
  }

  showModes(mode) {
    for (const one of ["card", "grid", "plots"])
      this.button(one).setAttribute("aria-pressed", one === mode);
  }

  /** A queue that was entered in its middle goes on at its start. */
  showEnd() {
    const { queue, ledger } = this;
    if (queue.start !== null) return this.openQueue({});
    if (queue.isWhole && queue.nLeased === 0) {
      return this.messages.allDone(ledger.progress, { hasFigures: ledger.outbox.size === 0 });
    }
    this.messages.queueDone({
      nDone: queue.samples.length,
      nLeased: queue.nLeased,
      onAll: () => this.openQueue({ filter: {} }),
      onAgain: () => this.openQueue({}),
    });
    if (queue.nLeased > 0) this.later(() => this.lookAgain(queue.asked), LOOK_AGAIN_MS);
    return undefined;
  }

  /** What others held may be free by now. */
  lookAgain(asked) {
    if (this.queue.asked === asked && this.root.dataset.view === "done" && this.isVisible)
      this.openQueue({ isQuiet: true });
  }

  showProgress() {
    const { ledger, queue } = this;
    if (!ledger.progress) return;
    showProgress(this.part, { progress: ledger.progress, queue, pace: ledger.pace() });
  }

  announce(text) {
    write(this.part.announcer, text);
  }

  describe(sample) {
    const label = sample.verdict === "relabel" ? ` ${this.name(sample.reviewed_label)}` : "";
    return `${VERDICTS[sample.verdict]}${label}`;
  }

  /** What the usual choice leaves as it is, in words. */
  describeUsual(sample) {
    const { verdict, label } = usualChoice(sample);
    return label === null ? VERDICTS[verdict] : this.name(label);
  }

  name(label) {
    return this.session.classes[label];
  }

  button(act) {
    return this.root.querySelector(`[data-act="${act}"]`);
  }

  /** In grid and plots the focus is where the arrows are heard. */
  focus() {
    const { tiles, scatter } = this.part;
    const place = { grid: tiles, plots: scatter }[this.root.dataset.view] ?? this.root;
    if (!document.querySelector("dialog[open]")) place.focus({ preventScroll: true });
  }

  // ---- deciding -----------------------------------------------------------------------------

  /** The first step after a refusal makes the refusal go away once it is confirmed. */
  noteStep(uid) {
    this.clearsRefusal ??= uid;
  }

  writeNote() {
    if (this.queue.sample && !this.isPlots) this.notes.open(this.queue.sample);
  }

  undo() {
    if (!this.ledger.outbox) return;
    const step = this.ledger.undo();
    if (step && this.view.state.mode === "grid") this.grid.restore(step);
    this.goToStep(step);
  }

  redo() {
    if (!this.ledger.outbox) return;
    const step = this.ledger.redo();
    for (const { sample } of step?.changes ?? []) this.grid.mark(sample, false);
    this.goToStep(step);
  }

  /** Shows what a step was about; what is not loaded is shown when the server has answered. */
  goToStep(step) {
    const place = this.queue.samples.indexOf(step?.changes[0]?.sample);
    if (place >= 0) this.go(place);
  }

  // ---- answers ------------------------------------------------------------------------------

  onConfirmed(items) {
    if (items.some((item) => item.uid === this.clearsRefusal)) this.part.refusal.hidden = true;
    if (this.root.dataset.view === "done") this.show();
  }

  /** What the server knows of these samples shows; a single one that is not loaded is brought in. */
  onStale(ids) {
    const isApart = ids.length === 1 && !this.queue.find(ids[0]);
    return isApart ? this.look(ids[0]) : this.refresh(ids);
  }

  /** Brings samples to what the server knows; without any that is loaded the queue opens anew. */
  async refresh(ids) {
    try {
      if (ids.some((id) => this.queue.find(id))) await this.queue.refresh(ids);
      else return await this.openQueue({});
    } catch {
      return undefined; // The next answer or visit brings the same news.
    }
    if (this.queue.sample) this.show();
    else this.go(this.queue.openFrom(0));
    return undefined;
  }

  /** The next step that is confirmed makes it go away. */
  refuse(problem, fileName) {
    this.clearsRefusal = null;
    this.messages.refuse(problem, fileName);
  }

  async onRefused(problem, ids) {
    this.refuse(problem, this.queue.find(ids[0])?.file_name);
    const session = await this.server.get("/session").catch(() => null);
    if (session && this.session) this.ledger.progress = session.progress;
    await this.refresh(ids);
  }

  onLeft(n, isKept) {
    const decisions = `${n === 1 ? "1 decision" : `${n} decisions`} for the former one`;
    this.refuse({
      message: "Another workspace is open here now.",
      hint: isKept
        ? `${decisions}: not saved. This browser sends them when it is open here again.`
        : `${decisions}: lost, for this browser keeps nothing.`,
    });
  }

  onApplied({ n_applied: n, group, progress }) {
    this.ledger.noteGroup(group);
    this.ledger.progress = progress;
    this.announce(`applied to ${n}`);
    this.focus();
    return this.openQueue({});
  }
}
