/**
 * Walking a figure by keyboard: which point lies next, what is said about it, and where its keys are
 * heard. A step looks at every point once, a millisecond or two with 100,000 of them.
 */

import { write } from "./dom.js";

const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowDown: [0, -1],
  ArrowUp: [0, 1],
};

/**
 * Hears keys while the figure has the focus. step(key) moves and returns what is said, or null when
 * the key means nothing here; open() is for Enter; said is where it is written for everybody.
 */
export function listenToFigure(element, { said, step, open }) {
  element.addEventListener("focus", () => write(said, step("") ?? said.textContent));
  element.addEventListener("keydown", (event) => {
    const isForFigure = event.target === element; // It holds buttons, too.
    if (!isForFigure || event.ctrlKey || event.metaKey || event.altKey) return undefined;
    const isPress = event.key === "Enter" || event.key === " ";
    if (isPress && event.repeat) return event.preventDefault();
    if (event.key === "Enter") return open();
    const words = step(event.key);
    if (words === null) return undefined;
    event.preventDefault();
    return write(said, words);
  });
}

/** The place of one among points, and how to go on from it. */
export class PointWalk {
  /** `points` as the server sends them; begins at the most suspect one. */
  constructor(points) {
    this.points = points;
    this.byP = Int32Array.from({ length: points.n }, (_, i) => i).sort(
      (a, b) => points.pClean[a] - points.pClean[b],
    );
    this.ranks = new Int32Array(points.n);
    this.byP.forEach((i, rank) => (this.ranks[i] = rank));
    this.at = this.byP[0];
  }

  get rank() {
    return this.ranks[this.at];
  }

  /** Goes where a key says; whether the key says anything. */
  go(key, scale) {
    const last = this.points.n - 1;
    const to = { Home: 0, End: last, PageUp: this.rank - 1, PageDown: this.rank + 1 }[key];
    if (to !== undefined) this.at = this.byP[Math.min(Math.max(to, 0), last)];
    else if (DIRECTIONS[key]) this.at = this.nearest(DIRECTIONS[key], scale);
    else return false;
    return true;
  }

  /** The nearest point within 45 degrees of a direction, by the distance on the screen. */
  nearest([dx, dy], { x: scaleX, y: scaleY }) {
    const { n, pos, neg } = this.points;
    let [found, least] = [this.at, Infinity];
    for (let i = 0; i < n; i++) {
      const x = (neg[i] - neg[this.at]) * scaleX;
      const y = (pos[i] - pos[this.at]) * scaleY;
      const ahead = x * dx + y * dy;
      const distance = x * x + y * y;
      if (ahead > 0 && 2 * ahead * ahead >= distance && distance < least) {
        [found, least] = [i, distance];
      }
    }
    return found;
  }
}
