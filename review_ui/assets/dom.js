/** Small things that every part of the desk makes or writes. Text goes in by `textContent` only. */

export function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

export function makeButton(text, onClick, className = "desk-button") {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", onClick);
  return button;
}

/** The elements with `data-part` below the root, by that name. */
export function partsOf(root) {
  return Object.fromEntries(
    [...root.querySelectorAll("[data-part]")].map((one) => [one.dataset.part, one]),
  );
}

/** Writes only what changed, so that a screen reader hears no repetition. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function counted(number) {
  return number.toLocaleString("en");
}

export function countedImages(number) {
  return `${counted(number)} ${number === 1 ? "image" : "images"}`;
}

/** A probability in words; null is one that is not shown. */
export function percent(value) {
  if (value === null) return "hidden";
  if (value > 0 && value < 0.01) return "<1 %";
  if (value < 1 && value > 0.99) return ">99 %";
  return `${Math.round(value * 100)} %`;
}

/** A share as the number of a percentage to be edited, to one decimal. */
export function inPercent(share) {
  return Math.round(1000 * share) / 10;
}

/** Where a value lies between two others, from 0 to 1. */
export function fraction(value, [low, high]) {
  return high > low ? Math.min(Math.max((value - low) / (high - low), 0), 1) : 0;
}

export function newUid() {
  // crypto.randomUUID exists on https and localhost only.
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))]
    .map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

export function openTab(name) {
  document.getElementById(`${name}-tab-button`)?.click();
}

/** Calls `act` once the calls have paused for a while; `flush` calls it now if one is due. */
export function afterPause(act, pauseMs) {
  let timer = null;
  const run = () => {
    timer = null;
    return act();
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(run, pauseMs);
  };
  later.flush = () => {
    if (timer === null) return;
    clearTimeout(timer);
    run();
  };
  return later;
}
