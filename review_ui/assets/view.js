/** Which queue a reviewer has open, in which order and mode, and where he is: kept by the server. */

import { afterPause } from "./dom.js";

const KEEP_AFTER_MS = 600;
const MOST_KEPT_IDS = 1000;

const NOWHERE = { after: null, sample_id: null };
const DEFAULTS = {
  sort: "p_clean",
  seed: 0,
  filter: {},
  mode: "card",
  page_size: 24,
  ...NOWHERE,
};

export class View {
  /**
   * session(): of which store and run the desk is, null while it is of none. The signal ends its
   * listening.
   */
  constructor({ server, session, signal }) {
    this.server = server;
    this.session = session;
    this.state = { ...DEFAULTS };
    this.keepLater = afterPause(() => this.keep(), KEEP_AFTER_MS);
    addEventListener("pagehide", () => this.keepLater.flush(), { signal });
  }

  /** A place is one in the queue of its run; for another run only the choices hold. */
  async load() {
    const { view } = await this.server.get("/view");
    const isHere = view?.run === this.session()?.run;
    this.state = { ...DEFAULTS, ...view, ...(isHere ? {} : NOWHERE) };
    this.state.filter = asked(this.state.filter);
  }

  change(changes) {
    Object.assign(this.state, changes);
    this.keepLater();
  }

  /** Losing the place is no harm, so a failure waits for the next change. */
  async keep() {
    const session = this.session();
    if (!session) return;
    // Without its samples a long choice is another queue, so nothing of it is kept.
    const isLong = this.state.filter.sample_ids?.length > MOST_KEPT_IDS;
    const kept = isLong ? { ...this.state, filter: {}, ...NOWHERE } : this.state;
    const place = { ...kept, store: session.store, run: session.run };
    await this.server.put("/view", place, true).catch(() => {});
  }
}

/** A filter without the keys that ask for nothing. */
export function asked(filter) {
  return Object.fromEntries(Object.entries(filter).filter(([, value]) => value !== null));
}
