// One layer's attention. Tokens are counted as in the payload: CLS and registers first, then the patches along rows.
// A head is its number, or "mean". Values of patches are multiples of uniform: 1 where a patch gets as much as any other.
//
// Where the weights come from is the host's matter: a `StoredLayer` has them, a `LiveLayer` asks the model for them. Each
// has, beside what is here:
//
//     row(head, query)        the weights of one query, one per key; null if they are not stored
//     incoming(head, key)     what attends to a key: `patches`, how much of its attention each gives, in multiples of
//                             uniform; `others`, the shares that CLS and registers give; `onPatches`, which is NaN
//     storedQueries(head)     the set of queries whose rows of this head can be had
//     nearestStored(head, row, column)    the nearest patch among these; null if there is none

export const MEAN = "mean";

export class Layer {
  /** `windows` has the patch of each token of each window, -1 for padding; null for attention over the whole image. */
  constructor(about, windows) {
    this.about = about;
    this.rows = about.grid[0];
    this.columns = about.grid[1];
    this.numPatches = this.rows * this.columns;
    this.keyNames = about.prefix;
    this.queryNames = about.ownQueries ? ownQueryNames(about.ownQueries) : about.prefix;
    this.windows = windows;
    if (windows) this.locate(windows.places);
  }

  /** Note the window and token of each patch. */
  locate(places) {
    this.windowOf = new Int32Array(this.numPatches).fill(-1);
    this.tokenOf = new Int32Array(this.numPatches).fill(-1);
    this.counts = places.map((window) => window.filter((patch) => patch >= 0).length);
    places.forEach((window, number) =>
      window.forEach((patch, token) => {
        if (patch >= 0) {
          this.windowOf[patch] = number;
          this.tokenOf[patch] = token;
        }
      }),
    );
  }

  /** Whether patches attend: not where the layer has queries of its own. */
  get patchesAttend() {
    return this.about.ownQueries === 0;
  }

  /** The patch of each key of a query's row, -1 for padding; keys before `numPrefix` are no patches. */
  patchesOf(query) {
    return this.windows ? this.windows.places[this.windowOf[query]] : null;
  }

  /** What a query attends to: patches in multiples of uniform (NaN where it cannot attend), the others as shares. */
  outgoing(head, query) {
    const weights = this.row(head, query);
    if (!weights) return null;
    const patches = new Float32Array(this.numPatches).fill(NaN);
    const prefix = this.windows ? 0 : this.keyNames.length;
    const places = this.patchesOf(query);
    let sum = 0;
    let count = 0;
    for (let key = prefix; key < weights.length; key += 1) {
      const patch = places ? places[key] : key - prefix;
      if (patch < 0) continue;
      patches[patch] = weights[key];
      sum += weights[key];
      count += 1;
    }
    const factor = sum > 0 ? count / sum : 0;
    for (let patch = 0; patch < patches.length; patch += 1) patches[patch] *= factor;
    return { patches, others: weights.subarray(0, prefix), onPatches: sum };
  }

  /** Where a key stands in a query's row; -1 if the query cannot attend to it. */
  keyPlace(query, key) {
    if (!this.windows) return key;
    return this.windowOf[query] === this.windowOf[key] ? this.tokenOf[key] : -1;
  }

  /** The number of patches that a query can attend to. */
  countOf(query) {
    return this.windows ? this.counts[this.windowOf[query]] : this.numPatches;
  }
}

function ownQueryNames(count) {
  return count === 1 ? ["the query"] : [...Array(count).keys()].map((number) => `query ${number}`);
}
