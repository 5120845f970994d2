/**
 * Decisions on their way to the server, in order. Each group is written to localStorage before it
 * is sent and removed once the server has answered that it is committed, so neither a reload nor a
 * dead server loses one. Sending twice is harmless: the server knows every uid it has seen. A
 * group is never divided between two requests, so that it is stored as a whole or not at all.
 *
 * An outbox belongs to one store. What the server refuses for good is kept beside it, under
 * `review-refused:`.
 */

import { drop, keep, keysFrom, kept } from "./storage.js";

const BATCH = 200;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;
const DRAIN_LOOK_MS = 20;

export class Outbox {
  /**
   * send(items) resolves to the server's answer, or rejects: with `error.refused` when the server
   * understood and said no, with `error.isAnotherStore` when it serves another store, and with
   * anything else when it could not be reached.
   *
   * onState(state, n, problem) tells how the n waiting decisions do: "saving"; "retrying" or
   * "elsewhere" from a failure, which the problem says, to the next success; "saved" when none is
   * left.
   */
  constructor({ store, send, onState, onAnswer, onRefused }) {
    this.store = store;
    this.prefix = `review-outbox:${store}:`;
    this.send = send;
    this.onState = onState;
    this.onAnswer = onAnswer;
    this.onRefused = onRefused;
    this.count = 0;
    this.state = "saving";
    this.problem = "";
    this.isPumping = false;
    this.entries = leftOver(this.prefix);
    this.closing = new AbortController();
    const { signal } = this.closing;
    addEventListener("beforeunload", (event) => this.size > 0 && event.preventDefault(), {
      signal,
    });
  }

  /** The waiting items, in order. */
  get items() {
    return this.entries.flatMap((entry) => entry.items);
  }

  get size() {
    return this.entries.reduce((n, entry) => n + entry.items.length, 0);
  }

  get isClosed() {
    return this.closing.signal.aborted;
  }

  /** Says and sends nothing any more; what is left waits in localStorage for its store. */
  close() {
    this.closing.abort();
  }

  /** Takes the items of one group. */
  add(items) {
    this.count += 1;
    const order = `${Date.now()}`.padStart(15, "0") + `${this.count}`.padStart(8, "0");
    const entry = { key: `${this.prefix}${order}:${items[0].uid}`, items };
    keep(entry.key, items);
    this.entries.push(entry);
    this.report();
    this.pump();
  }

  /** Sends until nothing is left; safe to call at any time. */
  async pump() {
    if (this.isPumping) return;
    this.isPumping = true;
    let wait = FIRST_WAIT_MS;
    let most = BATCH;
    while (this.entries.length > 0 && !this.isClosed) {
      this.report();
      const batch = this.batch(most);
      const items = batch.flatMap((entry) => entry.items);
      try {
        const answer = await this.send(items);
        this.settle(batch);
        this.state = "saving";
        if (!this.isClosed) this.onAnswer(answer, items);
        wait = FIRST_WAIT_MS;
        most = BATCH;
      } catch (error) {
        if (!error.refused) {
          this.state = error.isAnotherStore ? "elsewhere" : "retrying";
          this.problem = error.message;
          this.report();
          await pause(wait);
          wait = Math.min(wait * 2, LONGEST_WAIT_MS);
        } else if (batch.length > 1) {
          most = 1; // Find out which one is refused.
        } else {
          this.settle(batch);
          this.setAside(batch[0], error.refused);
        }
      }
    }
    this.isPumping = false;
    this.report();
  }

  /** The first entries with at most so many items, but one at least. */
  batch(most) {
    let n = 0;
    const fits = (entry, i) => (n += entry.items.length) <= most || i === 0;
    const end = this.entries.findIndex((entry, i) => !fits(entry, i));
    return this.entries.slice(0, end < 0 ? this.entries.length : end);
  }

  /** Resolves to whether nothing is left, once that is so or the patience is at its end. */
  async drained(patienceMs) {
    const end = Date.now() + patienceMs;
    while (this.size > 0 && Date.now() < end) await pause(DRAIN_LOOK_MS);
    return this.size === 0;
  }

  report() {
    if (!this.isClosed) this.onState(this.size > 0 ? this.state : "saved", this.size, this.problem);
  }

  settle(batch) {
    this.entries.splice(0, batch.length);
    for (const entry of batch) drop(entry.key);
  }

  setAside({ key, items }, problem) {
    this.state = "saving";
    keep(key.replace("review-outbox:", "review-refused:"), { items, problem });
    if (!this.isClosed) this.onRefused(problem, items);
  }
}

/** Entries that an earlier page, or one that crashed, left behind. */
function leftOver(prefix) {
  return keysFrom(prefix)
    .map((key) => ({ key, items: [kept(key)].flat() }))
    .filter(({ items }) => items.every((item) => item?.uid));
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
