/** What the desk says in place of images: nothing yet, loading, out of reach, all done. */

import { VERDICTS } from "./choice.js";
import { counted, make, makeButton, openTab } from "./dom.js";

export class Messages {
  constructor(root, part) {
    this.root = root;
    this.part = part;
  }

  /** Actions are [text, what to do]; the first one is the main one. */
  show(view, title, text = "", actions = []) {
    this.root.dataset.view = view;
    this.part.messageTitle.textContent = title;
    this.part.messageText.textContent = text;
    this.part.messageCounts.hidden = true;
    this.part.messageActions.replaceChildren(
      ...actions.map(([words, act], i) =>
        makeButton(words, act, `desk-button ${i === 0 ? "desk-primary" : ""}`),
      ),
    );
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
    this.show("done", nFlagged ? "Every suspect is decided" : "Nothing was flagged", text, [
      ["Adapt a model", () => openTab("adapt")],
      ["Export the labels", () => openTab("export")],
    ]);
    this.part.messageCounts.hidden = !hasFigures;
    this.part.messageCounts.replaceChildren(
      ...Object.entries(VERDICTS).map(([verdict, word]) => {
        const pair = make("div");
        pair.append(make("dd", "", counted(byVerdict[verdict] ?? 0)), make("dt", "", word));
        return pair;
      }),
    );
    this.addUndo();
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
        ? `${counted(nLeased)} more match, but somebody else has them before him now. They come back here if he leaves them.`
        : nDone > 0
          ? "Every image of it is decided."
          : "Take a filter away, or choose another queue.";
    this.show("done", title, text, [
      ["All suspects", onAll],
      ["Look again", onAgain],
    ]);
    if (nDone > 0) this.addUndo();
  }

  addUndo() {
    const undo = makeButton("Undo the last step", () => {});
    undo.dataset.act = "undo";
    this.part.messageActions.append(undo);
  }

  /** Stays until it is closed, or a decision made after it is confirmed. */
  refuse({ message, hint }, fileName = "") {
    const text = [message, hint].filter(Boolean).join(" ");
    this.part.refusalText.textContent = fileName ? `${fileName}: ${text}` : text;
    this.part.refusal.hidden = false;
  }
}
