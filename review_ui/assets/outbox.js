/**
 * Decisions on their way to the server, in order. Each is written to localStorage before it is
 * sent and removed once the server has answered that it is committed, so neither a reload nor a
 * dead server loses one. Sending twice is harmless: the server knows every uid it has seen.
 */

const BATCH = 50;
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 5000;

export class Outbox {
  /**
   * send(items) resolves to the server's answer, or rejects: with `error.refused` when the server
   * understood and said no, with anything else when it could not be reached.
   */
  constructor({ workspace, send, onState, onAnswer, onRefused }) {
    this.prefix = `review-outbox:${workspace}:`;
    this.send = send;
    this.onState = onState;
    this.onAnswer = onAnswer;
    this.onRefused = onRefused;
    this.count = 0;
    this.isPumping = false;
    this.entries = this.leftOver();
    addEventListener("beforeunload", (event) => {
      if (this.entries.length > 0) event.preventDefault();
    });
  }

  get size() {
    return this.entries.length;
  }

  add(item) {
    this.count += 1;
    const order = `${Date.now()}`.padStart(15, "0") + `${this.count}`.padStart(8, "0");
    const entry = { key: `${this.prefix}${order}:${item.uid}`, item };
    remember(entry);
    this.entries.push(entry);
    this.pump();
  }

  /** Entries that an earlier page, or one that crashed, left behind. */
  leftOver() {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(this.prefix))
      .sort()
      .map((key) => ({ key, item: JSON.parse(localStorage.getItem(key)) }));
  }

  /** Sends until nothing is left; safe to call at any time. */
  async pump() {
    if (this.isPumping) return;
    this.isPumping = true;
    let wait = FIRST_WAIT_MS;
    let size = BATCH;
    while (this.entries.length > 0) {
      this.onState("saving", this.entries.length);
      const batch = this.entries.slice(0, size);
      try {
        const answer = await this.send(batch.map((entry) => entry.item));
        this.settle(batch);
        this.onAnswer(answer, batch.map((entry) => entry.item));
        wait = FIRST_WAIT_MS;
        size = BATCH;
      } catch (error) {
        if (!error.refused) {
          this.onState("retrying", this.entries.length);
          await new Promise((resolve) => setTimeout(resolve, wait));
          wait = Math.min(wait * 2, LONGEST_WAIT_MS);
        } else if (batch.length > 1) {
          size = 1; // Find out which one is refused.
        } else {
          this.settle(batch);
          this.onRefused(error.refused, batch[0].item);
        }
      }
    }
    this.isPumping = false;
    this.onState("saved", 0);
  }

  settle(batch) {
    this.entries.splice(0, batch.length);
    for (const entry of batch) localStorage.removeItem(entry.key);
  }
}

function remember(entry) {
  try {
    localStorage.setItem(entry.key, JSON.stringify(entry.item));
  } catch {
    // A full or forbidden localStorage: the entry still waits in memory, and leaving the page
    // still warns.
  }
}
