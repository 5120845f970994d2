/**
 * A ring and a frame over a Plotly figure. They are elements of their own: were they shapes of the
 * figure, each step would draw 100,000 points anew, more than a second without a graphics card.
 */

import { make } from "./dom.js";

export class Marks {
  constructor(element) {
    this.element = element;
    this.ring = make("i", "desk-ring");
    this.frame = make("i", "desk-frame");
    this.places = { ring: null, frame: null };
  }

  /** Has the marks follow the figure once it is drawn: when it is zoomed, moved or resized. */
  follow() {
    this.element.append(this.frame, this.ring);
    this.element.on("plotly_afterplot", () => this.place());
    this.place();
  }

  /** The ring goes round a place [x, y], the frame from one place to another; null hides them. */
  show({ ring = null, frame = null }) {
    this.places = { ring, frame };
    if (this.ring.isConnected) this.place();
  }

  place() {
    const { ring, frame } = this.places;
    const pixels = this.pixelsOf();
    this.ring.hidden = ring === null;
    this.frame.hidden = frame === null;
    if (ring) {
      const [left, top] = pixels(ring);
      Object.assign(this.ring.style, { left: `${left}px`, top: `${top}px` });
    }
    if (frame) {
      const [[x0, y0], [x1, y1]] = frame.map(pixels);
      const [left, top] = [Math.min(x0, x1), Math.min(y0, y1)];
      const [width, height] = [Math.abs(x1 - x0), Math.abs(y1 - y0)];
      Object.assign(this.frame.style, {
        left: `${left}px`,
        top: `${top}px`,
        width: `${width}px`,
        height: `${height}px`,
      });
    }
  }

  /** From the figure's units to pixels within the element. */
  pixelsOf() {
    const own = this.element.getBoundingClientRect();
    const area = this.element.querySelector(".nsewdrag").getBoundingClientRect();
    const { xaxis, yaxis } = this.element.layout;
    const share = (value, [low, high]) => (value - low) / (high - low);
    return ([x, y]) => [
      area.left - own.left + share(x, xaxis.range) * area.width,
      area.bottom - own.top - share(y, yaxis.range) * area.height,
    ];
  }
}
