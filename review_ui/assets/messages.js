/** What the desk says in place of images: nothing yet, loading, out of reach, all done. */

import { VERDICTS } from "./choice.js";
import { counted, make, makeButton, openTab } from "./dom.js";

export class Messages {
  constructor(root, part) {
    this.root = root;
    this.part = part;
  }

  /**
   * Actions are [text, what to do], the first one is the main one; counts are [number, name]. What is
   * said already is left alone: it may have the focus, and is read out at each change.
   */
  show(view, title, text = "", actions = [], { counts = [], hasUndo = false } = {}) {
    const words = actions.map(([text]) => text);
    const said = JSON.stringify([title, text, words, counts, hasUndo]);
    if (this.root.dataset.view === view && this.said === said) return;
    this.said = said;
    this.root.dataset.view = view;
    this.part.messageTitle.textContent = title;
    this.part.messageText.textContent = text;
    this.part.messageCounts.hidden = counts.length === 0;
    this.part.messageCounts.replaceChildren(...counts.map(countOf));
    this.part.messageActions.replaceChildren(
      ...actions.map(([words, act], i) =>
        makeButton(words, act, `desk-button ${i === 0 ? "desk-primary" : ""}`),
      ),
      ...(hasUndo ? [undoButton()] : []),
    );
  }

  outOfReach(error) {
    this.show("error", "The queue could not be loaded", `${error.message} Trying again.`);
  }

  empty(hasData) {
    const text = hasData
      ? "Phase 1 has to score the images before there is a queue. Start it on the Detect tab; it runs in the background."
      : "Bring in a folder or a CSV file of labelled images on the Overview tab first.";
    const [words, tab] = hasData ? ["Go to Detect", "detect"] : ["Go to Overview", "overview"];
    this.show("empty", hasData ? "No suspects yet" : "No images yet", text, [
      [words, () => openTab(tab)],
    ]);
  }

  /** Every suspect is decided, or none was flagged. */
  allDone({ by_verdict: byVerdict, n_flagged: nFlagged }, { hasFigures }) {
    const text = nFlagged
      ? "The curated set is ready: fine-tune a classifier on it, or export the labels."
      : "Phase 1 believes every given label. You can export the labels as they are.";
    const title = nFlagged ? "Every suspect is decided" : "Nothing was flagged";
    const actions = [
      ["Adapt a model", () => openTab("adapt")],
      ["Export the labels", () => openTab("export")],
    ];
    const counts = Object.entries(VERDICTS).map(([verdict, word]) => [
      byVerdict[verdict] ?? 0,
      word,
    ]);
    this.show("done", title, text, actions, { counts: hasFigures ? counts : [], hasUndo: true });
  }

  /** A queue of the reviewer's own choice has nothing (more) to show. */
  queueDone({ nDone, nLeased, onAll, onAgain }) {
    const title =
      nLeased > 0
        ? "The rest is with other reviewers"
        : nDone > 0
          ? "This queue is done"
          : "No image matches";
    const text =
      nLeased > 0
        ? `${counted(nLeased)} more match, but others have them on their screens now. What they leave undecided comes back here.`
        : nDone > 0
          ? "Every image of it is decided."
          : "Take a filter away, or choose another queue.";
    const actions = [
      ["All suspects", onAll],
      ["Look again", onAgain],
    ];
    this.show("done", title, text, actions, { hasUndo: nDone > 0 });
  }

  /** Stays until it is closed, or a decision made after it is confirmed. */
  refuse({ message, hint }, fileName = "") {
    const text = [message, hint].filter(Boolean).join(" ");
    this.part.refusalText.textContent = fileName ? `${fileName}: ${text}` : text;
    this.part.refusal.hidden = false;
  }
}

function countOf([number, name]) {
  const pair = make("div");
  pair.append(make("dd", "", counted(number)), make("dt", "", name));
  return pair;
}

function undoButton() {
  const undo = make("button", "desk-button", "Undo the last step");
  undo.type = "button";
  undo.dataset.act = "undo";
  return undo;
}
