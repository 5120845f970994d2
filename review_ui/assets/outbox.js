/**
 * Decisions on their way to the server, in order. Each is written to localStorage before it is
 * sent and removed once the server has answered that it is committed, so neither a reload nor a
 * dead server loses one. Sending twice is harmless: the server knows every uid it has seen.
 *
 * An outbox belongs to one store. What the server refuses for good is kept beside it, under
 * `review-refused:`.
 */

const BATCH = 50;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Outbox {
  /**
   * send(items) resolves to the server's answer, or rejects: with `error.refused` when the server
   * understood and said no, with `error.isAnotherStore` when it serves another store, and with
   * anything else when it could not be reached.
   *
   * onState(state, n) tells how the n waiting decisions do: "saving"; "retrying" or "elsewhere"
   * from a failure to the next success; "saved" when none is left.
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
    this.isPumping = false;
    this.entries = leftOver(this.prefix);
    this.closing = new AbortController();
    const { signal } = this.closing;
    addEventListener("beforeunload", (event) => this.size > 0 && event.preventDefault(), { signal });
  }

  get size() {
    return this.entries.length;
  }

  get isClosed() {
    return this.closing.signal.aborted;
  }

  /** Says and sends nothing any more; what is left waits in localStorage for its store. */
  close() {
    this.closing.abort();
  }

  add(item) {
    this.count += 1;
    const order = `${Date.now()}`.padStart(15, "0") + `${this.count}`.padStart(8, "0");
    const entry = { key: `${this.prefix}${order}:${item.uid}`, item };
    keep(entry.key, item);
    this.entries.push(entry);
    this.report();
    this.pump();
  }

  /** Sends until nothing is left; safe to call at any time. */
  async pump() {
    if (this.isPumping) return;
    this.isPumping = true;
    let wait = FIRST_WAIT_MS;
    let size = BATCH;
    while (this.size > 0 && !this.isClosed) {
      this.report();
      const batch = this.entries.slice(0, size);
      const items = batch.map((entry) => entry.item);
      try {
        const answer = await this.send(items);
        this.settle(batch);
        this.state = "saving";
        if (!this.isClosed) this.onAnswer(answer, items);
        wait = FIRST_WAIT_MS;
        size = BATCH;
      } catch (error) {
        if (!error.refused) {
          this.state = error.isAnotherStore ? "elsewhere" : "retrying";
          this.report();
          await new Promise((resolve) => setTimeout(resolve, wait));
          wait = Math.min(wait * 2, LONGEST_WAIT_MS);
        } else if (batch.length > 1) {
          size = 1; // Find out which one is refused.
        } else {
          this.settle(batch);
          this.setAside(batch[0], error.refused);
        }
      }
    }
    this.isPumping = false;
    this.report();
  }

  report() {
    if (!this.isClosed) this.onState(this.size > 0 ? this.state : "saved", this.size);
  }

  settle(batch) {
    this.entries.splice(0, batch.length);
    for (const entry of batch) drop(entry.key);
  }

  setAside({ key, item }, problem) {
    this.state = "saving";
    keep(key.replace("review-outbox:", "review-refused:"), { item, problem });
    if (!this.isClosed) this.onRefused(problem, item);
  }
}

// ---- localStorage, which may be full, forbidden or damaged --------------------------------------

/** Entries that an earlier page, or one that crashed, left behind. */
function leftOver(prefix) {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(prefix));
    return keys.sort().map(entryOf).filter((entry) => entry.item?.uid);
  } catch {
    return [];
  }
}

function entryOf(key) {
  try {
    return { key, item: JSON.parse(localStorage.getItem(key)) };
  } catch {
    return { key, item: null };
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // The entry still waits in memory, and leaving the page still warns.
  }
}

function drop(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // Sent again after a reload, which is harmless.
  }
}
