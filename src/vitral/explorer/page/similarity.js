// How similar tokens are: the cosine between the vectors that they carry from block to block, from -1 to 1.
import { MEAN } from "./layer.js";
import { patchAt } from "./view.js";

const unpackedVectors = new WeakMap(); // vectors, by what the header says of them

/** Vectors of length 1 in whole steps, as src/vitral/explorer/vectors.py writes them: low bytes, then high bytes. */
export class Vectors {
  constructor({ directions, step }, bytes) {
    const count = bytes.length / 2;
    Object.assign(this, { directions, step, tokens: count / directions });
    this.numbers = Int16Array.from({ length: count }, (_, place) => bytes[place] | (bytes[count + place] << 8));
  }

  /** The similarity of one token with every other. */
  products(token) {
    const out = new Float32Array(this.tokens);
    for (let start = 0; start < this.numbers.length; start += this.tokens) {
      const own = this.numbers[start + token];
      if (own === 0) continue;
      for (let other = 0; other < this.tokens; other += 1) out[other] += own * this.numbers[start + other];
    }
    return out.map((sum) => Math.min(1, Math.max(-1, sum * this.step ** 2)));
  }
}

/** The vectors that a part of the header describes. */
export async function vectorsOf(about, source) {
  if (!unpackedVectors.has(about)) unpackedVectors.set(about, new Vectors(about, await source.content(about)));
  return unpackedVectors.get(about);
}

/** Give a layer the tokens before and after its block, as { vectors, prefix }, or null where there are none. */
export async function loadTokens(layer, image, source) {
  if (layer.tokens) return;
  const load = async (place) => (place === null ? null : { prefix: image.tokens[place].prefix, vectors: await vectorsOf(image.tokens[place], source) });
  const [before, after] = await Promise.all(layer.about.tokens.map(load));
  layer.tokens = { before, after };
}

/** The map of what is similar to a token, in the form of `show` (shown.js). */
export function showSimilar(layer, view, token) {
  const patch = patchAt(token, layer.about.grid);
  const empty = (note) => ({ row: 0, column: 0, ...(patch ?? {}), name: token.name ?? null, head: MEAN, note, patches: new Float32Array(layer.numPatches).fill(NaN), others: [], onPatches: NaN });
  const found = layer.tokens?.[view.place];
  if (!found) return empty(`The page has no tokens ${view.place} the block of this layer.`);
  const { vectors, prefix } = found;
  const number = patch ? prefix.length + patch.row * layer.columns + patch.column : prefix.indexOf(token.name);
  if (number < 0) return empty("This token is not known here: choose a patch.");
  const products = vectors.products(number);
  const others = prefix.map((name, place) => ({ name, share: products[place] }));
  return { ...empty(""), patches: products.slice(prefix.length), others };
}
