/**
 * Positive against negative similarity of every scored image, with the line that divides them
 * and a ring round the image being looked at. Plotly comes from our own server, on first use.
 */

const FLAGGED = "#d97706";
const CLEAN = "#0d9488";
const PLOTLY = "/vendor/plotly.min.js";

let plotly = null;

function loadPlotly() {
  plotly ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = PLOTLY;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => reject(new Error("Plotly could not be loaded"));
    document.head.append(script);
  });
  return plotly;
}

export class Scatter {
  /** `onPick(sampleId)` is called when a point is clicked. */
  constructor(element, { onPick }) {
    this.element = element;
    this.onPick = onPick;
    this.marked = null;
    this.isDrawn = false;
  }

  /** Draws all points from the server's blob: n int32 ids, then n float32 pos, neg, p_clean. */
  async draw(blob) {
    const Plotly = await loadPlotly();
    const n = blob.byteLength / 16;
    const ids = new Int32Array(blob, 0, n);
    const [pos, neg, clean] = [1, 2, 3].map((column) => new Float32Array(blob, column * n * 4, n));
    const believed = trace({ name: "believed", colour: CLEAN });
    const flagged = trace({ name: "flagged", colour: FLAGGED });
    for (let i = 0; i < n; i++) {
      const one = clean[i] > 0.5 ? believed : flagged;
      one.x.push(neg[i]);
      one.y.push(pos[i]);
      one.customdata.push(ids[i]);
    }
    await Plotly.newPlot(this.element, [believed, flagged], this.layout(range(neg), range(pos)), {
      displaylogo: false,
      displayModeBar: false,
      showSendToCloud: false,
      responsive: true,
      scrollZoom: false,
    });
    this.element.on("plotly_click", (event) => this.onPick(event.points[0].customdata));
    this.isDrawn = true;
    if (this.marked) this.mark(this.marked);
  }

  /** Moves the ring. Only a shape changes, so the points are not drawn again. */
  mark(card) {
    this.marked = card;
    if (!this.isDrawn) return;
    window.Plotly.relayout(this.element, {
      "shapes[1].xanchor": card.neg_sim,
      "shapes[1].yanchor": card.pos_sim,
      "shapes[1].visible": true,
    });
  }

  layout([lowX, highX], [lowY, highY]) {
    const style = getComputedStyle(this.element);
    const axis = { gridcolor: "rgba(128,138,150,.22)", zeroline: false, automargin: true };
    const low = Math.min(lowX, lowY);
    const high = Math.max(highX, highY);
    return {
      template: "none",
      height: 210,
      margin: { l: 48, r: 8, t: 20, b: 40 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { color: style.color, size: 12, family: style.fontFamily },
      xaxis: { ...axis, title: { text: "similarity to the negative prompt" }, range: [lowX, highX] },
      yaxis: { ...axis, title: { text: "to the positive prompt" }, range: [lowY, highY] },
      legend: { orientation: "h", y: 1.14, x: 0 },
      hovermode: "closest",
      dragmode: false,
      shapes: [
        {
          type: "line",
          x0: low,
          y0: low,
          x1: high,
          y1: high,
          line: { color: "#7c8796", width: 1, dash: "dot" },
        },
        {
          type: "circle",
          xsizemode: "pixel",
          ysizemode: "pixel",
          xanchor: 0,
          yanchor: 0,
          x0: -8,
          x1: 8,
          y0: -8,
          y1: 8,
          line: { color: "#dc2626", width: 3 },
          visible: false,
        },
      ],
    };
  }
}

function trace({ name, colour }) {
  return {
    type: hasWebgl() ? "scattergl" : "scatter",
    mode: "markers",
    name,
    x: [],
    y: [],
    customdata: [],
    marker: { color: colour, size: 5, opacity: 0.7 },
    hovertemplate: "positive %{y:.3f}, negative %{x:.3f}<extra></extra>",
  };
}

function range(values) {
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
