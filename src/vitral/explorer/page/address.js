// Where a page keeps its view: in its address. A host without an address of its own gives its source a `memory` like this.

export const address = {
  /** The words of a view, as `toAddress` writes them; empty if there are none. */
  read: () => window.location.hash,
  write: (words) => window.history.replaceState(null, "", words),
  /** Call a function when the words change otherwise. */
  watch: (changed) => window.addEventListener("hashchange", changed),
};
