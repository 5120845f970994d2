/** Zoom and pan of the picture in a stage: wheel, double click, drag, two fingers, or keys. */

const MOST = 12;
const STEP = 1.5;
const PAN_SHARE = 0.2;
const DIRECTIONS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

export class Zoom {
  constructor(stage) {
    this.stage = stage;
    this.pointers = new Map();
    this.reset();
    stage.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    stage.addEventListener("dblclick", (event) => this.onDoubleClick(event));
    stage.addEventListener("pointerdown", (event) => this.onDown(event));
    stage.addEventListener("pointermove", (event) => this.onMove(event));
    for (const end of ["pointerup", "pointercancel"]) {
      stage.addEventListener(end, (event) => this.pointers.delete(event.pointerId));
    }
  }

  /** The whole picture again. */
  reset() {
    this.scale = 1;
    this.x = 0;
    this.y = 0;
    this.show();
  }

  onKey(key) {
    if (key === "0") this.reset();
    else this.by(key === "+" ? STEP : 1 / STEP, { x: 0, y: 0 });
  }

  /** Looks further in the direction of an arrow. */
  pan(arrow) {
    const [x, y] = DIRECTIONS[arrow];
    this.x -= x * PAN_SHARE * this.stage.clientWidth;
    this.y -= y * PAN_SHARE * this.stage.clientHeight;
    this.show();
  }

  onWheel(event) {
    event.preventDefault();
    this.by(Math.exp(-event.deltaY / 300), this.fromCentre(event));
  }

  onDoubleClick(event) {
    if (this.scale > 1) this.reset();
    else this.by(3, this.fromCentre(event));
  }

  onDown(event) {
    this.pointers.set(event.pointerId, event);
    // Its end is heard here wherever it comes.
    this.stage.setPointerCapture(event.pointerId);
  }

  onMove(event) {
    const before = this.pointers.get(event.pointerId);
    if (!before) return;
    const others = [...this.pointers.values()].filter((one) => one.pointerId !== event.pointerId);
    this.pointers.set(event.pointerId, event);
    if (others.length === 1) {
      this.by(distance(event, others[0]) / distance(before, others[0]), this.fromCentre(event));
    } else if (this.scale > 1) {
      this.x += event.clientX - before.clientX;
      this.y += event.clientY - before.clientY;
      this.show();
    }
  }

  /** Changes the scale so that the point under the pointer stays where it is. */
  by(factor, { x, y }) {
    const scale = Math.min(Math.max(this.scale * factor, 1), MOST);
    const change = scale / this.scale;
    this.x = x - (x - this.x) * change;
    this.y = y - (y - this.y) * change;
    this.scale = scale;
    this.show();
  }

  /** Moves no further than to the picture's edges. */
  show() {
    const { clientWidth, clientHeight } = this.stage;
    const room = (this.scale - 1) / 2;
    this.x = clamp(this.x, clientWidth * room);
    this.y = clamp(this.y, clientHeight * room);
    this.stage.style.setProperty(
      "--zoom",
      `translate(${this.x}px, ${this.y}px) scale(${this.scale})`,
    );
    this.stage.dataset.zoomed = this.scale > 1;
  }

  fromCentre({ clientX, clientY }) {
    const box = this.stage.getBoundingClientRect();
    return { x: clientX - box.left - box.width / 2, y: clientY - box.top - box.height / 2 };
  }
}

function clamp(value, most) {
  return Math.min(Math.max(value, -most), most);
}

function distance(one, other) {
  return Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) || 1;
}
