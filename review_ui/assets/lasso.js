/**
 * Drawing round the points of a Plotly figure. Plotly's own lasso looks for its points at every
 * move of the mouse, close to a second each with 100,000 of them; this one looks once, at the end.
 */

const LEAST_PX = 6;
const SVG = "http://www.w3.org/2000/svg";

export class Lasso {
  /**
   * onDrawn(corners): an outline was drawn, as [x, y] in the figure's own units. The signal ends
   * its listening.
   */
  constructor(element, { onDrawn, signal }) {
    this.element = element;
    this.onDrawn = onDrawn;
    this.corners = null;
    this.line = document.createElementNS(SVG, "polygon");
    this.drawing = document.createElementNS(SVG, "svg");
    this.drawing.classList.add("desk-lasso");
    this.drawing.append(this.line);
    element.addEventListener("pointerdown", (event) => this.onDown(event), { capture: true });
    // A finger that draws does not scroll the page.
    const hold = (event) => this.corners && event.preventDefault();
    element.addEventListener("touchmove", hold, { passive: false });
    // Plotly covers the page while a button is held, so the window is listened to.
    addEventListener("pointermove", (event) => this.corners && this.add(event), { signal });
    addEventListener("pointerup", () => this.corners && this.finish(), { signal });
    addEventListener("pointercancel", () => this.end(), { signal });
  }

  onDown(event) {
    const isFree = this.element.layout?.dragmode === false;
    if (!isFree || event.button !== 0 || !event.target.closest(".nsewdrag")) return;
    this.area = event.target.getBoundingClientRect();
    this.frame = this.element.getBoundingClientRect();
    this.corners = [];
    this.element.append(this.drawing);
    this.add(event);
  }

  add({ clientX, clientY }) {
    this.corners.push([clientX, clientY]);
    const points = this.corners.map(([x, y]) => [x - this.frame.left, y - this.frame.top]);
    this.line.setAttribute("points", points.join(" "));
  }

  finish() {
    const { corners, area } = this;
    const { xaxis, yaxis } = this.element.layout;
    this.end();
    const extent = (i) => {
      const values = corners.map((corner) => corner[i]);
      return Math.max(...values) - Math.min(...values);
    };
    if (extent(0) < LEAST_PX || extent(1) < LEAST_PX) return;
    this.onDrawn(
      corners.map(([x, y]) => [
        between(xaxis.range, (x - area.left) / area.width),
        between(yaxis.range, (area.bottom - y) / area.height),
      ]),
    );
  }

  end() {
    this.corners = null;
    this.drawing.remove();
  }
}

function between([low, high], share) {
  return low + share * (high - low);
}
