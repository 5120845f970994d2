/** What the bar above the images says: how far the review is, how fast, and whether it is saved. */

import { counted, write } from "./dom.js";

export function showProgress(part, { progress, queue, pace }) {
  const {
    round,
    n_flagged: nFlagged,
    n_decided: nDecided,
    n_left: nLeft,
    n_disputed: nDisputed,
    n_new: nNew,
    n_second_look: nSecondLook,
  } = progress;
  part.track.setAttribute("aria-valuemax", nFlagged);
  part.track.setAttribute("aria-valuenow", nDecided);
  part.fill.style.width = `${nFlagged ? (100 * nDecided) / nFlagged : 100}%`;
  const suspects = round > 1 ? `suspects of round ${round}` : "suspects";
  write(part.decided, `${counted(nDecided)} of ${counted(nFlagged)} ${suspects} decided`);
  const { isWhole } = queue;
  write(part.left, isWhole ? `${counted(nLeft)} left` : `${counted(queue.nLeft)} in this queue`);
  write(part.pace, paceText(pace, isWhole ? nLeft : queue.nLeft));
  write(part.others, queue.nLeased > 0 ? `${counted(queue.nLeased)} with other reviewers` : "");
  showQueue(part, "disagreements", "Disagreements", nDisputed);
  showQueue(part, "new", "New this round", nNew);
  showQueue(part, "second look", "Second look", nSecondLook);
}

/** How many are in a queue; those that only a later round fills are offered when they are not empty. */
function showQueue(part, name, words, n) {
  const option = part.queueName.querySelector(`[value="${name}"]`);
  write(option, n > 0 ? `${words} (${counted(n)})` : words);
  option.hidden = n === 0 && name !== "disagreements" && part.queueName.value !== name;
}

/** Decisions a minute, and what that means for the rest. */
function paceText(pace, nLeft) {
  if (pace === null || nLeft === 0) return "";
  return `${Math.round(pace)} a minute, about ${counted(Math.ceil(nLeft / pace))} min to go`;
}

export function showSaved(part, state, n, problem) {
  const texts = {
    saved: "Saved",
    saving: n > 1 ? `Saving ${n}` : "Saving",
    retrying: `NOT SAVED: ${n} waiting, retrying. ${problem}`,
  };
  part.saved.dataset.state = state;
  write(part.saved, texts[state]);
}
