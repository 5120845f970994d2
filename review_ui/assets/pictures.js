/** Pictures of one size, asked for ahead of time and kept decoded until they are painted. */

const LARGE_SCREEN = 2600;

export class Pictures {
  /** onSettled(sample): its picture has come, or has failed to. */
  constructor({ px, keep, className, onSettled }) {
    // A large screen gets twice the size, and fewer of them.
    const times = screen.width * devicePixelRatio >= LARGE_SCREEN ? 2 : 1;
    Object.assign(this, { px: times * px, keep: keep / times, className, onSettled });
    this.bySample = new Map();
    this.broken = new Set();
  }

  /** The picture of a sample, which may still be on its way. */
  of(sample) {
    const kept = this.bySample.get(sample.sample_id);
    if (kept) return kept;
    const picture = new Image();
    picture.decoding = "sync";
    picture.draggable = false;
    picture.className = this.className;
    picture.src = pictureAddress(sample, this.px);
    this.bySample.set(sample.sample_id, picture);
    this.settle(sample, picture);
    return picture;
  }

  /** A picture that did not come is forgotten, so that it is asked for anew when it is needed. */
  async settle(sample, picture) {
    const id = sample.sample_id;
    const isThere = await picture.decode().then(
      () => true,
      () => false,
    );
    if (isThere) this.broken.delete(id);
    else this.broken.add(id);
    if (!isThere && this.bySample.get(id) === picture) this.bySample.delete(id);
    this.onSettled(sample);
  }

  /** "there" when it can be seen, "broken" when it did not come, else "loading". */
  state(sample) {
    const picture = this.bySample.get(sample.sample_id);
    if (picture?.complete && picture.naturalWidth > 0) return "there";
    return this.broken.has(sample.sample_id) ? "broken" : "loading";
  }

  /** Asks for pictures that will be needed, and forgets the oldest of the others. */
  warm(samples) {
    for (const sample of samples) this.of(sample);
    for (const [id, picture] of this.bySample) {
      if (this.bySample.size <= this.keep) break;
      if (!picture.isConnected) this.bySample.delete(id);
    }
  }
}

export function pictureAddress({ sample_id: id, version }, px) {
  return `/images/${id}?px=${px}&v=${version}`;
}
