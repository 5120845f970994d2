/**
 * What was decided on this page: shown at once, sent through the outbox, taken back step by step.
 *
 * A choice is {sample, verdict, label}; choices made together are one group and one undo step.
 */

import { settled } from "./choice.js";
import { newUid } from "./dom.js";
import { Outbox } from "./outbox.js";

const PACE_WINDOW_MS = 3 * 60 * 1000;
const LEAST_STEPS_OF_PACE = 3;
const TRAIN = "train"; // The figures are of this split alone.

export class Ledger {
  /**
   * onSaved(state, n): how the n waiting decisions do. onProgress(): the figures moved.
   * onConfirmed(items): these are stored. onStale(ids): the server may know better about these
   * samples. onFar(ids): a step that an earlier page had made was taken back or done again.
   * onRefused(problem, sampleIds). onLeft(n, isKept): n decisions wait for a store that is not open now.
   * announce(text) is for everybody to hear.
   */
  constructor({ server, ...listeners }) {
    Object.assign(this, listeners, { server });
    this.outbox = null;
    this.forget();
  }

  /** Begins with what the server knows now; the outbox stays while the store does. */
  open(session) {
    const isAhead = this.outbox?.size > 0 && this.outbox.store === session.store;
    if (!isAhead) this.progress = session.progress;
    this.reviewer = session.reviewer;
    if (this.outbox?.store === session.store) return;
    if (this.outbox?.size > 0) this.onLeft(this.outbox.size, this.outbox.isKept);
    this.outbox?.close();
    const { store } = session;
    this.outbox = new Outbox({
      store,
      send: (items) => this.server.post("/decisions", { store, items }),
      onState: this.onSaved,
      onAnswer: (answer, items) => this.onAnswer(answer, items),
      onRefused: (problem, items) => this.refuse(problem, items),
    });
    this.outbox.pump();
  }

  /** Leaves the steps of this page to the server, because another reviewer or run goes on. */
  forget() {
    this.done = [];
    this.undone = [];
    this.steps = [];
    this.inFlight = new Map();
  }

  /** Samples that the outbox holds a decision about, although the server does not know it yet. */
  waiting() {
    const decided = new Map();
    for (const item of this.outbox?.items ?? []) {
      if (item.type === "decide") decided.set(item.uid, item);
      else if (item.type === "undo") {
        for (const [uid, { group }] of decided) if (group === item.group) decided.delete(uid);
      }
    }
    return new Set([...decided.values()].map((item) => item.sample_id));
  }

  // ---- steps --------------------------------------------------------------------------------

  /** Takes one group of choices and returns its name; the given label as a label means keep. */
  decide(choices) {
    const group = newUid();
    const changes = choices.map(({ sample, ...choice }) => {
      const { verdict, label } = settled(choice, sample);
      const after = {
        verdict,
        reviewed_label: verdict === "both" ? null : label,
        reviewer: this.reviewer,
        is_disputed: false,
        is_second_look: false,
        isDone: true,
      };
      return { sample, before: fieldsOf(sample, after), after, label };
    });
    this.take(group, changes);
    this.steps.push({ at: Date.now(), n: choices.length });
    this.send(
      changes.map(({ sample, after: { verdict }, label }, i) => ({
        type: "decide",
        uid: i === 0 ? group : newUid(),
        group,
        sample_id: sample.sample_id,
        verdict,
        label: verdict === "keep" ? null : label,
        run: sample.run,
        seen: sample.seen,
      })),
    );
    return group;
  }

  note(sample, note) {
    const group = newUid();
    const after = { note: note || null };
    this.take(group, [{ sample, before: fieldsOf(sample, after), after }]);
    this.send([{ type: "note", uid: group, group, sample_id: sample.sample_id, note }]);
  }

  take(group, changes) {
    for (const { sample, after } of changes) this.set(sample, after);
    this.done.push({ group, changes });
    this.undone = [];
    this.onProgress();
  }

  /** A group that the server made by itself, which undo is to find. */
  noteGroup(group) {
    this.done.push({ group, changes: [] });
    this.undone = [];
  }

  /** Takes the last step back and returns it: null if an earlier page made it, then onFar tells. */
  undo() {
    const step = this.done.pop() ?? null;
    const uid = newUid();
    if (step) {
      for (const { sample, before } of step.changes) this.set(sample, before);
      this.undone.push({ ...step, uid });
      this.inFlight.set(uid, idsOf(step));
      this.announce("undone");
    }
    this.send([{ type: "undo", uid, group: step?.group ?? null }]);
    this.onProgress();
    return step;
  }

  /** Does the step that was last taken back once more, and returns it as `undo` does. */
  redo() {
    const step = this.undone.pop() ?? null;
    const uid = newUid();
    if (step) {
      for (const { sample, after } of step.changes) this.set(sample, after);
      this.done.push(step);
      this.inFlight.set(uid, idsOf(step));
      this.announce("done again");
    }
    this.send([{ type: "redo", uid, undo: step?.uid ?? null }]);
    this.onProgress();
    return step;
  }

  send(items) {
    this.outbox.add(items.map((item) => ({ ...item, reviewer: this.reviewer })));
  }

  /** Keeps the shown progress right until the server's own figures arrive. */
  set(sample, fields) {
    const before = { ...sample };
    Object.assign(sample, fields);
    if (sample.split !== TRAIN) return;
    this.progress.n_second_look += Number(sample.is_second_look) - Number(before.is_second_look);
    const change = Number(Boolean(sample.verdict)) - Number(Boolean(before.verdict));
    if (sample.is_clean || change === 0) return;
    this.progress.n_decided += change;
    this.progress.n_left -= change;
  }

  // ---- answers ------------------------------------------------------------------------------

  onAnswer(answer, items) {
    if (this.outbox.size === 0) this.progress = answer.progress;
    this.onConfirmed(items);
    const undos = items.filter((item) => item.type === "undo");
    const redos = items.filter((item) => item.type === "redo");
    undos.forEach(({ uid }, i) => this.settleStep(uid, answer.undone[i], "Nothing to undo"));
    redos.forEach(({ uid }, i) => this.settleStep(uid, answer.redone[i], "Nothing to redo"));
    this.onProgress();
  }

  /** What counts after a step may be another page's decision, so the server is asked. */
  settleStep(uid, sampleIds, nothing) {
    const shown = this.inFlight.get(uid);
    this.inFlight.delete(uid);
    if (shown) this.onStale([...new Set([...shown, ...sampleIds])]);
    else if (sampleIds.length > 0) this.onFar(sampleIds);
    else this.announce(nothing);
  }

  /** The server will never take these items, so the page goes back to what the server knows. */
  refuse(problem, items) {
    const groups = new Set(items.map((item) => item.group ?? item.uid));
    this.done = this.done.filter(({ group }) => !groups.has(group));
    this.undone = this.undone.filter(({ group }) => !groups.has(group));
    this.onRefused(
      problem,
      items.filter((item) => item.sample_id !== undefined).map((item) => item.sample_id),
    );
  }

  /**
   * Decisions a minute of this page over the last few minutes; null before there is a measure. The
   * first step only starts the clock, for what came before it, a page of the grid say, took long too.
   */
  pace() {
    const now = Date.now();
    this.steps = this.steps.filter(({ at }) => now - at < PACE_WINDOW_MS);
    const [first, ...others] = this.steps;
    if (this.steps.length < LEAST_STEPS_OF_PACE || now === first.at) return null;
    return (60_000 * others.reduce((sum, { n }) => sum + n, 0)) / (now - first.at);
  }
}

function idsOf(step) {
  return step.changes.map(({ sample }) => sample.sample_id);
}

function fieldsOf(sample, like) {
  return Object.fromEntries(Object.keys(like).map((key) => [key, sample[key]]));
}
