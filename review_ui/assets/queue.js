/**
 * The samples of one queue in its order, as far as they are loaded, and the place in it.
 *
 * Every page is leased to the reviewer, so that nobody else gets the same samples. A sample that
 * was decided on this page stays where it is and `isDone`. Until its first page has come a queue is not
 * open, and nothing is known of it.
 */

const REFRESH_AT_ONCE = 200;
const RELEASE_FROM = 700;
const RELEASE_BEHIND = 300;
const RENEW_MS = 3 * 60 * 1000;

export class Queue {
  /**
   * waiting(): ids with a decision that the server does not know yet. drained() resolves once there
   * are none, or they keep one waiting for too long.
   */
  constructor({ server, waiting, drained }) {
    Object.assign(this, { server, waiting, drained });
    this.renewedAt = Date.now();
    this.close();
  }

  /** Forgets everything; what was asked for before and comes later is not taken in. */
  close({ filter = {}, sort = "p_clean", seed = 0, after = null } = {}) {
    this.asked = { filter, sort, seed };
    this.isOpen = false;
    this.samples = [];
    this.come = new Set();
    this.at = 0;
    this.next = null;
    this.start = after;
    this.nMatching = 0;
    this.nLeased = 0;
    this.loading = null;
  }

  get sample() {
    return this.samples[this.at] ?? null;
  }

  /** Whether it holds every suspect and nothing else. */
  get isWhole() {
    const { name = "suspects", ...rest } = this.asked.filter;
    return name === "suspects" && Object.keys(rest).length === 0;
  }

  /** Whether what is decided leaves this queue. */
  get isEmptied() {
    const { name = "suspects", is_decided: isDecided = null } = this.asked.filter;
    if (["second look", "disagreements"].includes(name)) return true;
    return isDecided === null ? ["suspects", "new"].includes(name) : !isDecided;
  }

  /** How many wait in the queue, those not loaded included. */
  get nLeft() {
    const gone = this.samples.reduce(
      (sum, one) => sum + Number(one.didMatch) - Number(this.matches(one)),
      0,
    );
    return Math.max(0, this.nMatching - gone);
  }

  /** Whether a loaded sample still matches, by what has become of it on this page. */
  matches({ isDone, verdict }) {
    const { verdicts } = this.asked.filter;
    return !(isDone && (this.isEmptied || verdicts?.includes(verdict) === false));
  }

  /** Opens a queue, at its start or behind the place `after`; true unless another one is by now. */
  async open({ limit, ...wanted }) {
    this.close(wanted);
    const { asked, start } = this;
    await this.drained();
    try {
      if (this.asked === asked) await this.load(start, limit);
    } catch (error) {
      if (this.asked === asked) throw error;
    }
    return this.asked === asked;
  }

  /** Loads the next page, if there is one; calls at the same time share it. */
  more(limit) {
    if (this.next === null) return Promise.resolve();
    this.loading ??= this.load(this.next, limit).finally(() => (this.loading = null));
    return this.loading;
  }

  async load(after, limit) {
    const { asked } = this;
    await this.releasePassed();
    const waitingBefore = this.waiting(); // They may arrive after the server has read the queue.
    const page = await this.server.post("/queue", { ...asked, after, limit, lease: true });
    if (this.asked !== asked) return;
    this.isOpen = true;
    const shown = this.samples.map((one) => one.sample_id);
    const unsaved = new Set([...waitingBefore, ...this.waiting()]);
    const isKnown = ({ sample_id: id }) => unsaved.has(id) || shown.includes(id);
    const fresh = page.samples.filter((sample) => !isKnown(sample));
    for (const { sample_id: id } of page.samples) this.come.add(id);
    const counted = [...this.waiting()].filter((id) => this.come.has(id));
    for (const one of this.samples) one.didMatch = this.matches(one);
    this.samples.push(
      ...fresh.map((sample) => ({ ...sample, isDone: false, didMatch: true, after })),
    );
    this.next = page.next;
    this.nMatching = page.n_matching - (this.isEmptied ? counted.length : 0);
    this.nLeased = page.n_leased;
  }

  /** Gives back what was only looked at long ago, before the leases run out. */
  async releasePassed() {
    const open = this.samples.filter((one) => !one.isDone && !one.isReleased);
    if (open.length < RELEASE_FROM) return;
    const passed = open.slice(0, RELEASE_BEHIND);
    await this.server.post("/leases", { release: passed.map((one) => one.sample_id) });
    for (const one of passed) one.isReleased = true;
  }

  /** Whoever shows that he is there keeps his leases, however long he looks at one image. */
  renewLeases() {
    if (this.samples.length === 0 || Date.now() - this.renewedAt < RENEW_MS) return;
    this.renewedAt = Date.now();
    this.server.put("/leases").catch(() => {});
  }

  find(id) {
    return this.samples.find((one) => one.sample_id === id);
  }

  indexOf(id) {
    return this.samples.findIndex((one) => one.sample_id === id);
  }

  /** The first open sample at or behind an index, else the first of all; the end if none is. */
  openFrom(index) {
    const behind = this.samples.findIndex((one, i) => i >= index && !one.isDone);
    if (behind >= 0 || this.next !== null) return behind < 0 ? this.samples.length : behind;
    const first = this.samples.findIndex((one) => !one.isDone);
    return first < 0 ? this.samples.length : first;
  }

  /** How many open samples are loaded behind the place. */
  get nAhead() {
    return this.samples.filter((one, i) => i > this.at && !one.isDone).length;
  }

  /**
   * Brings loaded samples to what the server knows. What is decided here while it is asked, or on
   * its way to it, is newer.
   */
  async refresh(ids) {
    const loaded = ids.map((id) => this.find(id)).filter(Boolean);
    for (const [split, all] of Object.entries(Object.groupBy(loaded, (one) => one.split))) {
      for (let i = 0; i < all.length; i += REFRESH_AT_ONCE) {
        const some = all.slice(i, i + REFRESH_AT_ONCE);
        const wasDone = new Map(some.map((one) => [one.sample_id, one.isDone]));
        const filter = { name: "all", sample_ids: [...wasDone.keys()], split };
        const page = await this.server.post("/queue", { filter, limit: REFRESH_AT_ONCE });
        for (const fresh of page.samples)
          if (this.find(fresh.sample_id)?.isDone === wasDone.get(fresh.sample_id)) this.renew(fresh);
      }
    }
  }

  /** Takes a sample in before the place if it is not loaded; the shown one stays. */
  async fetch(id) {
    const { asked } = this;
    const fresh = await this.server.get(`/samples/${id}`);
    if (this.asked !== asked) return;
    if (this.find(id)) return this.renew(fresh);
    const isDone = this.isEmptied && this.isSettled(fresh);
    const taken = { ...fresh, isDone, after: this.start };
    this.samples.splice(this.at, 0, { ...taken, didMatch: this.matches(taken) });
    this.at += 1;
  }

  renew(fresh) {
    const sample = this.find(fresh.sample_id);
    if (!sample || this.waiting().has(fresh.sample_id)) return;
    const isDone = this.isSettled(fresh) && (sample.isDone || this.isEmptied);
    Object.assign(sample, fresh, { isDone });
  }

  /** Whether a sample is decided and this queue does not ask to decide it again. */
  isSettled({ verdict, is_disputed: isDisputed, is_second_look: isSecondLook }) {
    const isAsked = this.asked.filter.name === "disagreements" ? isDisputed : isSecondLook;
    return verdict !== null && !isAsked;
  }
}
