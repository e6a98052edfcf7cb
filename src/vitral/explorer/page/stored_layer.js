// A layer whose rows are in the page, all or some of them.
import { Layer, MEAN } from "./layer.js";

export class StoredLayer extends Layer {
  constructor(about, parts, windows, levels) {
    super(about, windows);
    Object.assign(this, { parts, levels });
  }

  /** The part that holds the row of a query and head, and the numbers of its rows to average; null if none does. */
  find(head, query) {
    for (const part of this.parts) {
      if (!part.place.has(query)) continue;
      if (part.kind === "each") {
        const heads = head === MEAN ? [...Array(part.heads).keys()] : [head];
        return { part, numbers: heads.map((one) => part.rowNumber(one, query)) };
      }
      if (head === MEAN) return { part, numbers: [part.rowNumber(0, query)] };
    }
    return null;
  }

  /** The weights of one query, one per key; null if they are not stored. */
  row(head, query) {
    const found = this.find(head, query);
    if (!found) return null;
    const { part, numbers } = found;
    const weights = new Float32Array(part.keys);
    for (const number of numbers) {
      const scale = part.largest[number] / numbers.length;
      const start = number * part.keys;
      for (let key = 0; key < part.keys; key += 1) weights[key] += scale * this.levels[part.levels[start + key]];
    }
    return weights;
  }

  /** What attends to a key: of each patch, how much of its attention, in the same unit; of the others, their shares. */
  incoming(head, key) {
    const patches = new Float32Array(this.numPatches).fill(NaN);
    const own = this.queryNames.length;
    const others = new Float32Array(own).fill(NaN);
    for (const part of this.parts) {
      if (part.kind === "mean" && head !== MEAN) continue;
      const [first, last] = part.kind === "each" && head !== MEAN ? [head, head] : [0, part.heads - 1];
      const sums = this.patchSums(part);
      for (let place = 0; place < part.queries.length; place += 1) {
        const query = part.queries[place];
        const at = this.keyPlace(query, key);
        if (at < 0) continue;
        let weight = 0;
        let sum = 0;
        for (let one = first; one <= last; one += 1) {
          const number = one * part.queries.length + place;
          weight += part.largest[number] * this.levels[part.levels[number * part.keys + at]];
          sum += sums[number];
        }
        if (query < own) others[query] = weight / (last - first + 1);
        else patches[query - own] = sum > 0 ? (weight * this.countOf(query)) / sum : 0;
      }
    }
    return { patches, others, onPatches: NaN };
  }

  /** The queries whose rows of this head are stored. */
  storedQueries(head) {
    const kind = head === MEAN ? MEAN : "each";
    this.stored ??= new Map();
    if (!this.stored.has(kind)) {
      const parts = this.parts.filter((part) => part.kind === "each" || kind === MEAN);
      this.stored.set(kind, new Set(parts.flatMap((part) => part.queries)));
    }
    return this.stored.get(kind);
  }

  /** The sum of each row's weights on patches, computed when it is first needed. */
  patchSums(part) {
    if (part.sums) return part.sums;
    const prefix = this.windows ? 0 : this.keyNames.length;
    const { queries, keys } = part;
    part.sums = new Float32Array(part.largest.length);
    for (let number = 0; number < part.sums.length; number += 1) {
      const places = this.patchesOf(queries[number % queries.length]);
      let sum = 0;
      for (let key = prefix; key < keys; key += 1) {
        if (!places || places[key] >= 0) sum += this.levels[part.levels[number * keys + key]];
      }
      part.sums[number] = sum * part.largest[number];
    }
    return part.sums;
  }

  /** The stored patch that is nearest to a row and column, among the queries of a head; null if no patch is stored. */
  nearestStored(head, row, column) {
    const own = this.queryNames.length;
    const wanted = own + row * this.columns + column;
    if (this.storedQueries(head).has(wanted)) return wanted;
    let best = null;
    let least = Infinity;
    for (const query of this.storedQueries(head)) {
      if (query < own) continue;
      const away = Math.hypot(Math.floor((query - own) / this.columns) - row, ((query - own) % this.columns) - column);
      if (away < least) [best, least] = [query, away];
    }
    return best;
  }
}
