/** Which queue a reviewer has open, in which order and mode, and where he is: kept by the server. */

import { afterPause } from "./dom.js";

const KEEP_AFTER_MS = 600;
const MOST_KEPT_IDS = 1000;

const DEFAULTS = {
  sort: "p_clean",
  seed: 0,
  filter: {},
  after: null,
  mode: "card",
  page_size: 24,
  sample_id: null,
};

export class View {
  /** store(): the id of the store that this place belongs to. */
  constructor({ server, store }) {
    this.server = server;
    this.store = store;
    this.state = { ...DEFAULTS };
    this.keepLater = afterPause(() => this.keep(), KEEP_AFTER_MS);
    addEventListener("pagehide", () => this.keepLater.flush());
  }

  async load() {
    const { view } = await this.server.get("/view");
    this.state = { ...DEFAULTS, ...view };
    this.state.filter = asked(this.state.filter);
  }

  change(changes) {
    Object.assign(this.state, changes);
    this.keepLater();
  }

  /** Losing the place is no harm, so a failure waits for the next change. */
  async keep() {
    const { sample_ids: ids, ...rest } = this.state.filter;
    const isShort = ids === undefined || ids.length <= MOST_KEPT_IDS;
    const filter = isShort ? this.state.filter : rest;
    const place = { ...this.state, filter, store: this.store() };
    await this.server.put("/view", place, true).catch(() => {});
  }
}

/** A filter without the keys that ask for nothing. */
export function asked(filter) {
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== null));
}
