/** Plots mode: where the images lie, how sure phase 1 is, and which classes are in question. */

import { confusionTable } from "./confusion.js";
import { counted, make, makeButton, percent, write } from "./dom.js";
import { Lasso } from "./lasso.js";
import { Marks } from "./marks.js";
import * as figures from "./scatter.js";
import { listenToFigure, PointWalk } from "./walk.js";

const MOST_CELLS = 1000;
const MOST_CLASSES = 40;
const MOST_CHOSEN = 100_000;

export class Plots {
  /** onQueue(filter): that queue is wanted. onLook(sampleId): that sample is. */
  constructor(desk, { onQueue, onLook }) {
    Object.assign(this, { desk, onQueue, onLook, part: desk.part });
    this.asked = null;
    this.walk = null;
    this.corner = null;
    this.bin = 0;
    const { scatter, scatterSaid, histogram, histogramSaid } = this.part;
    this.pointMarks = new Marks(scatter);
    this.barMarks = new Marks(histogram);
    new Lasso(scatter, {
      onDrawn: (corners) => this.openInside(corners),
      signal: desk.leaving.signal,
    });
    listenToFigure(scatter, {
      said: scatterSaid,
      step: (key) => this.stepPoint(key),
      open: () => this.walk && this.onLook(this.points.ids[this.walk.at]),
    });
    listenToFigure(histogram, {
      said: histogramSaid,
      step: (key) => this.stepBar(key),
      open: () => this.bars && this.openBar(this.bin),
    });
  }

  /** Takes away what is of another run or store. */
  forget() {
    this.clear();
    for (const list of [this.part.classCounts, this.part.confusion]) list.replaceChildren();
  }

  clear() {
    this.asked = null;
    this.points = null;
    this.walk = null;
    this.bars = null;
    for (const marks of [this.pointMarks, this.barMarks]) marks.clear();
    for (const figure of [this.part.scatter, this.part.histogram]) figures.clear(figure);
    this.part.scatter.dataset.state = "";
  }

  /** Draws what is new since the last time. */
  async show() {
    this.showConfusion();
    if (this.asked?.run !== this.desk.server.run) await this.draw();
    this.markCurrent();
  }

  async draw() {
    this.clear();
    const { server, session } = this.desk;
    const asked = { run: server.run };
    this.asked = asked;
    try {
      const points = figures.pointsOf(await server.bytes("/points"));
      if (this.asked === asked) await this.drawPoints(points, session.clean_threshold);
    } catch (error) {
      if (this.asked === asked) this.fail(error);
    }
  }

  async drawPoints(points, threshold) {
    this.showClasses(points);
    this.part.scatter.dataset.state = "drawing";
    await figures.drawScatter(this.part.scatter, points, { onPick: this.onLook });
    this.points = points;
    this.walk = new PointWalk(points);
    this.bars = figures.barsOf(points);
    await figures.drawHistogram(this.part.histogram, this.bars, {
      threshold,
      onPick: (bin) => this.openBar(bin),
    });
    this.pointMarks.follow();
    this.barMarks.follow();
    this.part.scatter.dataset.state = "drawn";
  }

  /** The keyboard goes on from the image that was looked at last, if it has a point. */
  markCurrent() {
    const at = this.points?.ids.indexOf(this.desk.queue.sample?.sample_id) ?? -1;
    this.corner = null;
    if (at < 0) return this.pointMarks.show({});
    this.walk.at = at;
    return this.markWalk();
  }

  markWalk() {
    const { pos, neg } = this.points;
    const place = (i) => [neg[i], pos[i]];
    const ring = place(this.walk.at);
    this.pointMarks.show({ ring, frame: this.corner === null ? null : [place(this.corner), ring] });
  }

  // ---- by keyboard --------------------------------------------------------------------------

  /** Space at two points opens what lies between them. */
  stepPoint(key) {
    if (!this.walk?.points.n) return null;
    if (key === " " && this.corner !== null) return this.openBetween(this.corner, this.walk.at);
    if (key === " ") this.corner = this.walk.at;
    else if (key === "Escape" && this.corner !== null) this.corner = null;
    else if (key && !this.walk.go(key, figures.scaleOf(this.part.scatter))) return null;
    this.markWalk();
    const corner = this.corner === null ? "" : " Space opens the region from the marked corner.";
    return `${this.pointInWords(this.walk.at)}${corner}`;
  }

  pointInWords(i) {
    const { given, pClean, isClean, pos, neg, n } = this.points;
    const place = `${counted(this.walk.rank + 1)} of ${counted(n)} by suspicion`;
    const state = isClean[i] ? "believed" : "flagged";
    const sims = `positive ${pos[i].toFixed(3)}, negative ${neg[i].toFixed(3)}`;
    return `${place}: ${this.desk.name(given[i])}, ${state}, clean ${percent(pClean[i])}, ${sims}.`;
  }

  openBetween(one, other) {
    const { pos, neg } = this.points;
    const [left, right] = [neg[one], neg[other]].sort((a, b) => a - b);
    const [low, high] = [pos[one], pos[other]].sort((a, b) => a - b);
    const isThere = (i) => neg[i] >= left && neg[i] <= right && pos[i] >= low && pos[i] <= high;
    this.openChosen(this.points.ids.filter((_, i) => isThere(i)));
    return "Region opened.";
  }

  stepBar(key) {
    if (!this.bars) return null;
    const last = this.bars[0].length - 1;
    const to = { "": this.bin, ArrowLeft: this.bin - 1, ArrowRight: this.bin + 1, Home: 0, End: last };
    if (to[key] === undefined) return null;
    this.bin = Math.min(Math.max(to[key], 0), last);
    const [left, right] = figures.rangeOfBar(this.bin);
    const [bottom, top] = this.part.histogram.layout.yaxis.range;
    this.barMarks.show({ frame: [[left, bottom], [right, top]] });
    const [low, high] = [left, right].map((p) => Math.round(1000 * p) / 10);
    const [flagged, believed] = this.bars.map((counts) => counted(counts[this.bin]));
    return `Clean ${low} to ${high} %: ${flagged} flagged, ${believed} believed.`;
  }

  // ---- opening ------------------------------------------------------------------------------

  openBar(bin) {
    const [low, high] = figures.rangeOfBar(bin);
    this.onQueue({ name: "all", p_min: low, p_max: high });
  }

  openInside(corners) {
    this.openChosen(figures.inside(this.points, corners));
  }

  openChosen(ids) {
    if (ids.length > 0) this.onQueue({ name: "all", sample_ids: [...ids.slice(0, MOST_CHOSEN)] });
  }

  /** It is drawn the next time that it is looked at. */
  fail(error) {
    this.clear();
    this.part.scatter.append(make("p", "", `The plot could not be drawn. ${error.message}`));
  }

  /** Bars of our own, because Plotly would read tags in the names. */
  showClasses({ given, isClean, n }) {
    const flagged = new Map();
    for (let i = 0; i < n; i++) {
      if (!isClean[i]) flagged.set(given[i], (flagged.get(given[i]) ?? 0) + 1);
    }
    const ranked = [...flagged].sort(([, a], [, b]) => b - a);
    const shown = ranked.slice(0, MOST_CLASSES);
    const most = shown[0]?.[1] ?? 1;
    this.part.classCounts.replaceChildren(
      ...shown.map(([label, count]) => this.classBar(label, count, most)),
    );
    const rest = ranked.length - shown.length;
    write(
      this.part.classCountsNote,
      `Click a class to open those of its suspects that are undecided.${rest > 0 ? ` ${counted(rest)} more classes have fewer.` : ""}`,
    );
  }

  classBar(label, count, most) {
    const open = () => this.onQueue({ name: "suspects", given: [label] });
    const row = makeButton("", open, "desk-button desk-class-count");
    const name = make("span", "desk-ellipsis", this.desk.name(label));
    name.dir = "auto";
    const bar = make("i", "desk-class-bar desk-negative");
    bar.style.setProperty("--share", count / most);
    row.append(name, bar, make("span", "desk-class-sim", counted(count)));
    return row;
  }

  async showConfusion() {
    const { server } = this.desk;
    const { run } = server;
    try {
      const { cells, n_cells: nCells } = await server.post("/confusion", {
        filter: { name: "all" },
        limit: MOST_CELLS,
      });
      if (run !== server.run) return;
      const table = confusionTable(cells, {
        name: (label) => this.desk.name(label),
        onPick: this.onQueue,
      });
      this.part.confusion.replaceChildren(table);
      const pairs = `${counted(nCells)} pairs of labels`;
      write(
        this.part.confusionNote,
        `Coloured: suspects left to decide. Grey: all images of a pair with none left. Click a number to open its queue. ${pairs}.`,
      );
    } catch (error) {
      this.part.confusion.replaceChildren(make("p", "", error.message));
    }
  }
}
