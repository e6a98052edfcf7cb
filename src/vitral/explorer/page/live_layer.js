// A layer whose weights the model computes when they are looked at: those of one query, or of one key, in all heads.
import { Layer, MEAN } from "./layer.js";

const KEPT = 2_000_000; // weights of a layer that stay here

export class LiveLayer extends Layer {
  constructor(about, windows) {
    super(about, windows);
    this.answers = new Map(); // by direction and token; those that were used last stand last
    const patches = this.patchesAttend ? this.numPatches : 0;
    this.queries = new Set(Array(this.queryNames.length + patches).keys());
  }

  /** Whether the weights of a query ("to") or key ("from") are here. */
  has(direction, token) {
    return this.answers.has(`${direction} ${token}`);
  }

  /** Keep what the model answered, and forget what was used least lately. */
  keep(direction, token, weights) {
    this.answers.set(`${direction} ${token}`, weights);
    const most = Math.max(2, Math.floor(KEPT / weights.length));
    for (const key of this.answers.keys()) {
      if (this.answers.size <= most) break;
      this.answers.delete(key);
    }
  }

  answer(direction, token) {
    const key = `${direction} ${token}`;
    const weights = this.answers.get(key);
    if (!weights) return null;
    this.answers.delete(key);
    this.answers.set(key, weights);
    return weights;
  }

  /** The weights of one query, one per key; null if they are not here. */
  row(head, query) {
    const answer = this.answer("to", query);
    if (!answer) return null;
    const keys = this.about.keys;
    if (head !== MEAN) return answer.slice(head * keys, (head + 1) * keys);
    return meanOver(answer, this.about.heads, keys);
  }

  /** What attends to a key; null if it is not here. The answer has each query's weight, then its sum on patches. */
  incoming(head, key) {
    const answer = this.answer("from", key);
    if (!answer) return null;
    const patches = new Float32Array(this.numPatches).fill(NaN);
    const own = this.queryNames.length;
    const others = new Float32Array(own).fill(NaN);
    const queries = this.queriesOf(key);
    const heads = this.about.heads;
    const half = heads * queries.length;
    const pick = (start) => {
      const part = answer.subarray(start, start + half);
      return head === MEAN ? meanOver(part, heads, queries.length) : part.subarray(head * queries.length, (head + 1) * queries.length);
    };
    const [weights, sums] = [pick(0), pick(half)];
    queries.forEach((query, place) => {
      if (query < own) others[query] = weights[place];
      else patches[query - own] = sums[place] > 0 ? (weights[place] * this.countOf(query - own)) / sums[place] : 0;
    });
    return { patches, others, onPatches: NaN };
  }

  /** The queries that can attend to a key, in the order of the answer. */
  queriesOf(key) {
    return this.windows ? this.patchesOf(key).filter((patch) => patch >= 0) : [...this.queries];
  }

  storedQueries() {
    return this.queries;
  }

  nearestStored(head, row, column) {
    return this.patchesAttend ? this.queryNames.length + row * this.columns + column : null;
  }
}

function meanOver(values, heads, count) {
  const mean = new Float32Array(count);
  for (let head = 0; head < heads; head += 1) {
    for (let place = 0; place < count; place += 1) mean[place] += values[head * count + place] / heads;
  }
  return mean;
}
