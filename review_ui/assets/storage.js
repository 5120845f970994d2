/** localStorage, which may be full, forbidden or damaged: then it keeps nothing, and throws nothing. */

/** Keeps a value; whether it is kept. It is in memory too, for as long as the page is open. */
export function keep(key, value) {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

export function kept(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

export function drop(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // It was never kept.
  }
}

/** The kept keys with this beginning, in order. */
export function keysFrom(prefix) {
  try {
    return Object.keys(localStorage)
      .filter((key) => key.startsWith(prefix))
      .sort();
  } catch {
    return [];
  }
}
