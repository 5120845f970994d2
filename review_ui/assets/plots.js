/** Plots mode: where the images lie, how sure phase 1 is, and which classes are in question. */

import { confusionTable } from "./confusion.js";
import { counted, make, makeButton, write } from "./dom.js";
import { Lasso } from "./lasso.js";
import { clearFigure, drawHistogram, drawScatter, inside, markPoint, pointsOf } from "./scatter.js";

const MOST_CELLS = 1000;
const MOST_CLASSES = 40;
const MOST_CHOSEN = 100_000;

export class Plots {
  /** onQueue(filter): that queue is wanted. onLook(sampleId): that sample is. */
  constructor(desk, { onQueue, onLook }) {
    Object.assign(this, { desk, onQueue, onLook, part: desk.part });
    this.run = null;
    new Lasso(this.part.scatter, {
      onDrawn: (corners) => this.openInside(corners),
      signal: desk.leaving.signal,
    });
  }

  /** Takes away what is of another run or store. */
  forget() {
    this.run = null;
    for (const figure of [this.part.scatter, this.part.histogram]) clearFigure(figure);
    for (const list of [this.part.classCounts, this.part.confusion]) list.replaceChildren();
    this.part.scatter.dataset.state = "";
  }

  /** Draws what is new since the last time. */
  async show() {
    const { session, server } = this.desk;
    this.showConfusion();
    if (this.run !== server.run) await this.draw(session).catch((error) => this.fail(error));
    markPoint(this.part.scatter, this.desk.queue.sample);
  }

  async draw(session) {
    const { server } = this.desk;
    const { run } = server;
    const points = pointsOf(await server.bytes("/points"));
    if (run !== server.run) return;
    this.points = points;
    this.showClasses(points);
    this.part.scatter.dataset.state = "drawing";
    await drawScatter(this.part.scatter, points, { onPick: this.onLook });
    await drawHistogram(this.part.histogram, points, {
      threshold: session.clean_threshold,
      onPick: (low, high) => this.onQueue({ name: "all", p_min: low, p_max: high }),
    });
    this.part.scatter.dataset.state = "drawn";
    this.run = run;
  }

  openInside(corners) {
    const ids = inside(this.points, corners);
    if (ids.length > 0) this.onQueue({ name: "all", sample_ids: ids.slice(0, MOST_CHOSEN) });
  }

  fail(error) {
    this.part.scatter.replaceChildren(
      make("p", "", `The plot could not be drawn. ${error.message}`),
    );
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
      `Click a class to open its suspects.${rest > 0 ? ` ${counted(rest)} more classes have fewer.` : ""}`,
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
