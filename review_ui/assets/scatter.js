/**
 * The two figures that Plotly draws: positive against negative similarity of every scored image,
 * and the histogram of the clean probability. Plotly comes from our own server, on first use, and
 * is given numbers only, because it would read tags in text.
 */

const FLAGGED = "#d97706";
const CLEAN = "#0d9488";
const GRID = "rgba(128,138,150,.22)";
const LINE = "#7c8796";
const PLOTLY = "/vendor/plotly.min.js";
const BINS = 40;
const CONFIG = { displaylogo: false, showSendToCloud: false, responsive: true };

let plotly = null;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      plotly = null;
      reject(new Error("Plotly could not be loaded."));
    };
    document.head.append(script);
  });
  return plotly;
}

/** The columns of the server's blob: six of four bytes each. */
export function pointsOf(blob) {
  const n = blob.byteLength / 24;
  const column = (i, Kind) => new Kind(blob, i * n * 4, n);
  return {
    n,
    ids: column(0, Int32Array),
    pos: column(1, Float32Array),
    neg: column(2, Float32Array),
    pClean: column(3, Float32Array),
    given: column(4, Int32Array),
    isClean: column(5, Int32Array),
  };
}

/** Takes a figure off the page, or what stands in its place. */
export function clear(element) {
  window.Plotly?.purge(element);
  element.replaceChildren();
}

/** onPick(sampleId) for a click on a point. */
export async function drawScatter(element, points, { onPick }) {
  const Plotly = await loadPlotly();
  const groups = [
    { name: "believed", colour: CLEAN, chosen: indices(points, (i) => points.isClean[i]) },
    { name: "flagged", colour: FLAGGED, chosen: indices(points, (i) => !points.isClean[i]) },
  ];
  const size = textSize(element) / 2.6;
  const traces = groups.map((group) => trace(points, { ...group, size }));
  const drawRound = {
    name: "drawRound",
    title: "Draw round points",
    icon: Plotly.Icons.lasso,
    click: () => Plotly.relayout(element, { dragmode: false }),
  };
  await Plotly.react(element, traces, scatterLayout(element, points), {
    ...CONFIG,
    scrollZoom: true,
    modeBarButtons: [[drawRound, "pan2d", "zoom2d", "resetScale2d"]],
  });
  element.removeAllListeners("plotly_click");
  element.on("plotly_click", ({ points: [{ curveNumber, pointNumber }] }) =>
    onPick(points.ids[groups[curveNumber].chosen[pointNumber]]),
  );
}

/** The ids of the points inside an outline, by the edges to the right of each. */
export function inside({ n, ids, pos, neg }, corners) {
  const found = [];
  for (let i = 0; i < n; i++) {
    let isInside = false;
    let [x0, y0] = corners.at(-1);
    for (const [x, y] of corners) {
      const isBeside = y > pos[i] !== y0 > pos[i];
      if (isBeside && neg[i] < x0 + ((x - x0) * (pos[i] - y0)) / (y - y0)) isInside = !isInside;
      [x0, y0] = [x, y];
    }
    if (isInside) found.push(ids[i]);
  }
  return found;
}

/** Pixels for a unit of either axis. */
export function scaleOf(element) {
  const { width, height } = element.querySelector(".nsewdrag").getBoundingClientRect();
  const { xaxis, yaxis } = element.layout;
  return { x: width / lengthOf(xaxis.range), y: height / lengthOf(yaxis.range) };
}

/** How many images each bar of the histogram stands for: flagged, then believed. */
export function barsOf({ n, pClean, isClean }) {
  const counts = [new Array(BINS).fill(0), new Array(BINS).fill(0)];
  for (let i = 0; i < n; i++) {
    counts[isClean[i]][Math.min(Math.floor(pClean[i] * BINS), BINS - 1)] += 1;
  }
  return counts;
}

/** The clean probabilities of a bar, from and to. */
export function rangeOfBar(bin) {
  return [bin / BINS, (bin + 1) / BINS];
}

/** onPick(bin) for a click on a bar. */
export async function drawHistogram(element, counts, { threshold, onPick }) {
  const Plotly = await loadPlotly();
  const x = counts[0].map((_, i) => (i + 0.5) / BINS);
  const bars = [
    ["flagged", FLAGGED],
    ["believed", CLEAN],
  ].map(([name, color], i) => ({
    type: "bar",
    name,
    x,
    y: counts[i],
    width: 1 / BINS,
    marker: { color, line: { width: 0 } },
    hovertemplate: "%{y} images near %{x:.0%}<extra></extra>",
  }));
  const layout = {
    ...baseLayout(element),
    barmode: "stack",
    dragmode: false,
    xaxis: { ...axis(element, "clean probability"), range: [0, 1], tickformat: ".0%" },
    yaxis: { ...axis(element, "images"), rangemode: "tozero" },
    shapes: [line({ x0: threshold, x1: threshold, y0: 0, y1: 1, yref: "paper" })],
  };
  await Plotly.react(element, bars, layout, { ...CONFIG, displayModeBar: false });
  element.removeAllListeners("plotly_click");
  element.on("plotly_click", (event) => onPick(event.points[0].pointNumber));
}

function indices({ n }, isChosen) {
  const all = new Int32Array(n);
  let size = 0;
  for (let i = 0; i < n; i++) if (isChosen(i)) all[size++] = i;
  return all.subarray(0, size);
}

function trace({ pos, neg }, { name, colour, chosen, size }) {
  const opacity = chosen.length > 20_000 ? 0.35 : 0.7;
  return {
    type: hasWebgl() ? "scattergl" : "scatter",
    mode: "markers",
    name,
    x: Float32Array.from(chosen, (i) => neg[i]),
    y: Float32Array.from(chosen, (i) => pos[i]),
    marker: { color: colour, size, opacity },
    hovertemplate: "positive %{y:.3f}, negative %{x:.3f}<extra></extra>",
  };
}

function scatterLayout(element, { pos, neg }) {
  const [lowX, highX] = rangeOf(neg);
  const [lowY, highY] = rangeOf(pos);
  const low = Math.min(lowX, lowY);
  const high = Math.max(highX, highY);
  return {
    ...baseLayout(element),
    dragmode: false,
    hovermode: "closest",
    xaxis: { ...axis(element, "similarity to the negative prompt"), range: [lowX, highX] },
    yaxis: { ...axis(element, "similarity to the positive prompt"), range: [lowY, highY] },
    shapes: [line({ x0: low, y0: low, x1: high, y1: high })],
  };
}

function baseLayout(element) {
  const style = getComputedStyle(element);
  return {
    template: "none",
    margin: { l: 56, r: 12, t: 28, b: 48 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: style.color, size: textSize(element), family: style.fontFamily },
    legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: LINE, activecolor: CLEAN },
  };
}

/** Somewhat smaller than the text around the figure. */
function textSize(element) {
  return Math.round(0.87 * parseFloat(getComputedStyle(element).fontSize));
}

function axis(element, text) {
  const title = { text, font: { size: textSize(element) } };
  return { gridcolor: GRID, zeroline: false, automargin: true, title };
}

function line(ends) {
  return { type: "line", ...ends, line: { color: LINE, width: 1.5, dash: "dot" } };
}

function lengthOf([low, high]) {
  return high - low;
}

function rangeOf(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const margin = (high - low) * 0.05 || 0.05;
  return [low - margin, high + margin];
}

function hasWebgl() {
  return document.createElement("canvas").getContext("webgl") !== null;
}
