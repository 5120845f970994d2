/** What each key and each button does, by mode. An act gets the key, or the number of a class. */

import { usualChoice } from "./choice.js";
import { listKeys, listenToKeys } from "./keys.js";

const RANDOM_SEEDS = 2 ** 31;

/** Has the keys, buttons and fields of the desk do what they say. */
export function listen(desk) {
  const { root, part } = desk;
  const acts = actsOf(desk);
  const act = (name, key) => (acts[root.dataset.view]?.[name] ?? acts.everywhere[name])?.(key);
  listKeys(part.keyLists);
  listenToKeys(root, {
    mode: () => (desk.isPlots ? "plots" : desk.view.state.mode),
    act,
    signal: desk.leaving.signal,
  });
  root.addEventListener("click", (event) => {
    const button = event.target.closest("[data-act]");
    if (button) act(button.dataset.act, Number(button.dataset.rank) + 1);
  });
  // A clicked button does not take the focus, or the next Space would press it again.
  root.addEventListener("mousedown", (event) => {
    if (event.target.closest("button") && !event.target.closest("dialog")) event.preventDefault();
  });
  for (const sign of ["pointermove", "keydown"])
    root.addEventListener(sign, () => desk.queue.renewLeases());
  part.sort.addEventListener("change", () => {
    const seed = Math.floor(Math.random() * RANDOM_SEEDS);
    desk.openQueue({ sort: part.sort.value, seed });
    desk.focus();
  });
  part.pageSize.addEventListener("change", () => {
    desk.view.change({ page_size: Number(part.pageSize.value) });
    desk.focus();
    desk.show();
  });
  for (const dialog of root.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => {
      desk.focus();
      desk.follow();
    });
  }
}

function actsOf(desk) {
  const { card, grid, part } = desk;
  const exclude = { verdict: "exclude" };
  const unsure = { verdict: "unsure" };
  return {
    everywhere: {
      undo: () => desk.undo(),
      redo: () => desk.redo(),
      note: () => desk.writeNote(),
      card: () => desk.setMode("card"),
      grid: () => desk.setMode("grid"),
      plots: () => desk.setMode("plots"),
      filter: () => desk.session?.run && desk.filters.open(),
      bulk: () => desk.session?.run && desk.bulk.open(),
      reviewer: () => desk.reviewers.open(),
      help: () => part.help.showModal(),
      dismiss: () => (part.refusal.hidden = true),
    },
    card: {
      keep: () => card.decideUsual(),
      suggestion: () => card.takeSuggestion(),
      class: (number) => card.takeRank(Number(number) - 1),
      other: () => card.takeOther(),
      both: () => card.takeBoth(),
      exclude: () => card.decide(exclude),
      unsure: () => card.decide(unsure),
      step: (key) => desk.step(key === "ArrowLeft" ? -1 : 1),
      back: () => desk.step(-1),
      forward: () => desk.step(1),
      zoom: (key) => card.zoom.onKey(key),
      pan: (key) => card.zoom.pan(key.replace("Shift+", "")),
      history: () => card.evidence.toggleHistory(),
    },
    grid: {
      confirm: () => grid.confirm(),
      mark: () => grid.toggle(desk.queue.sample),
      markAll: () => grid.toggleAll(),
      suggestion: () => grid.planSuggestions(),
      class: (number) => grid.planRank(Number(number) - 1),
      other: () => grid.planOther(),
      both: () => grid.planBoth(),
      exclude: () => grid.plan(() => exclude),
      unsure: () => grid.plan(() => unsure),
      keep: () => grid.plan(usualChoice),
      move: (key) => grid.move(key, false),
      range: (key) => grid.move(key.replace("Shift+", ""), true),
      page: (key) => grid.turn(key === "PageUp" ? -1 : 1),
      pageBack: () => grid.turn(-1),
      pageForward: () => grid.turn(1),
    },
  };
}
