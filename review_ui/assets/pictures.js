/**
 * Pictures of one size, asked for ahead of time and kept decoded until they are painted. Each is known
 * by its address, which changes with its bytes, for the ids of samples begin anew in every store.
 */

import { RETRY_MS } from "./net.js";

const LARGE_SCREEN = 2600;

export class Pictures {
  /** onSettled(address): that picture has come, has failed to, or is to be asked for anew. */
  constructor({ px, keep, className, onSettled }) {
    // A large screen gets twice the size, and fewer of them.
    const times = screen.width * devicePixelRatio >= LARGE_SCREEN ? 2 : 1;
    Object.assign(this, { px: times * px, keep: keep / times, className, onSettled });
    this.byAddress = new Map();
    this.problems = new Map();
  }

  /** The picture of a sample, which may still be on its way. */
  of(sample) {
    const address = this.addressOf(sample);
    const kept = this.byAddress.get(address);
    if (kept) return kept;
    const picture = new Image();
    picture.decoding = "sync";
    picture.draggable = false;
    picture.className = this.className;
    picture.src = address;
    this.byAddress.set(address, picture);
    this.settle(address, picture);
    return picture;
  }

  addressOf(sample) {
    return pictureAddress(sample, this.px);
  }

  async settle(address, picture) {
    const isThere = await picture.decode().then(
      () => true,
      () => false,
    );
    if (isThere) this.problems.delete(address);
    else {
      this.problems.set(address, await problemOf(address));
      setTimeout(() => this.forget(address, picture), RETRY_MS);
    }
    this.onSettled(address);
  }

  /**
   * A picture that did not come is asked for anew when it is needed: one that the server cannot draw
   * when its sample is next shown, another one at once.
   */
  forget(address, picture) {
    if (this.byAddress.get(address) !== picture) return;
    this.byAddress.delete(address);
    if (!this.problems.get(address)) this.onSettled(address);
  }

  /**
   * "there" when it can be seen, "unreadable" when the server said why it cannot, "broken" when it did
   * not come, else "loading".
   */
  state(sample) {
    const address = this.addressOf(sample);
    const picture = this.byAddress.get(address);
    if (picture?.complete && picture.naturalWidth > 0) return "there";
    const problem = this.problems.get(address);
    if (problem === undefined) return "loading";
    return problem ? "unreadable" : "broken";
  }

  /** Why a sample's picture is unreadable. */
  problem(sample) {
    return this.problems.get(this.addressOf(sample)) ?? "";
  }

  /** Asks for pictures that will be needed, and forgets the oldest of the others. */
  warm(samples) {
    for (const sample of samples) this.of(sample);
    for (const [address, picture] of this.byAddress) {
      if (this.byAddress.size <= this.keep) break;
      if (!picture.isConnected) this.byAddress.delete(address);
    }
  }
}

/** What the server says of a picture that it cannot draw; nothing when it does not answer. */
async function problemOf(address) {
  const answer = await fetch(address).catch(() => null);
  const { message = "" } = answer?.status === 404 ? await answer.json().catch(() => ({})) : {};
  return message;
}

export function pictureAddress({ sample_id: id, version }, px) {
  return `/images/${id}?px=${px}&v=${version}`;
}
