/** The confusion table: how often which label is suggested for which given one. */

import { counted, make, makeButton } from "./dom.js";

const MOST = 20;
const NONE = "none";

/**
 * A table of the classes with the most undecided suspects. onPick(filter) for a click on a cell;
 * `name(label)` gives a class its name.
 */
export function confusionTable(cells, { name, onPick }) {
  const rows = busiest(cells, (cell) => cell.given);
  const columns = inOrderOf(rows, busiest(cells, keyOf));
  const byPlace = new Map(cells.map((cell) => [`${cell.given} ${keyOf(cell)}`, cell]));
  const most = Math.max(1, ...cells.map((cell) => cell.n_undecided));
  const words = (key) => (key === NONE ? "no suggestion" : name(key));

  const table = make("table", "desk-matrix");
  const head = make("tr");
  head.append(
    heading("given ↓ suggested →", "col"),
    ...columns.map((key) => heading(words(key), "col")),
  );
  table.append(head);
  for (const given of rows) {
    const row = make("tr");
    row.append(heading(name(given), "row"));
    for (const key of columns) {
      const cell = byPlace.get(`${given} ${key}`);
      const place = make("td");
      if (cell) place.append(cellButton(cell, { words, name, most, onPick }));
      row.append(place);
    }
    table.append(row);
  }
  return table;
}

/** The queue of a cell: what is left to decide in it, or all of it when nothing is. */
function filterOf(cell) {
  const suggested =
    cell.suggested === null ? { has_suggestion: false } : { suggested: [cell.suggested] };
  return { name: cell.n_undecided > 0 ? "suspects" : "all", given: [cell.given], ...suggested };
}

function cellButton(cell, { words, name, most, onPick }) {
  const isDue = cell.n_undecided > 0;
  const text = counted(isDue ? cell.n_undecided : cell.n);
  const button = makeButton(text, () => onPick(filterOf(cell)), "desk-cell");
  button.classList.toggle("desk-cell-due", isDue);
  button.style.setProperty("--heat", Math.sqrt(cell.n_undecided / most));
  const says = `${name(cell.given)}, suggested ${words(keyOf(cell))}: to decide ${counted(cell.n_undecided)}, flagged ${counted(cell.n_flagged)}, in all ${counted(cell.n)}`;
  button.title = says;
  button.setAttribute("aria-label", says);
  return button;
}

function heading(text, scope) {
  const element = make("th");
  element.scope = scope;
  const inner = make("span", "", text);
  inner.dir = "auto";
  inner.title = text;
  element.append(inner);
  return element;
}

function keyOf({ suggested }) {
  return suggested ?? NONE;
}

/** The columns as the rows stand, so that a pair of classes lies across the diagonal; then others. */
function inOrderOf(rows, columns) {
  const place = (key) => (rows.includes(key) ? rows.indexOf(key) : rows.length + Number(key === NONE));
  return columns.sort((a, b) => place(a) - place(b));
}

/** The keys with the most undecided suspects, then with the most images. */
function busiest(cells, key) {
  const weights = new Map();
  for (const cell of cells) {
    const [due, all] = weights.get(key(cell)) ?? [0, 0];
    weights.set(key(cell), [due + cell.n_undecided, all + cell.n]);
  }
  return [...weights]
    .sort(([, a], [, b]) => b[0] - a[0] || b[1] - a[1])
    .slice(0, MOST)
    .map(([one]) => one);
}
