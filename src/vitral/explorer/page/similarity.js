// How similar tokens are: the cosine between the vectors that they carry from block to block, from -1 to 1.
import { MEAN } from "./layer.js";
import { patchAt } from "./view.js";

const unpackedTokens = new WeakMap(); // similarities, by what the header says of them

/** Similarities of tokens, in one of the two forms of src/vitral/explorer/similarities.py. */
class Similarities {
  constructor({ tokens, directions, step }, bytes) {
    Object.assign(this, { tokens, directions, step });
    this.numbers = directions ? coordinates(bytes) : new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  /** The similarity of one token with every other. */
  products(token) {
    const out = this.directions ? this.ofVectors(token) : this.ofPairs(token);
    return out.map((value) => Math.min(1, Math.max(-1, value)));
  }

  /** From coordinates, along directions, then tokens. */
  ofVectors(token) {
    const out = new Float32Array(this.tokens);
    for (let start = 0; start < this.numbers.length; start += this.tokens) {
      const own = this.numbers[start + token] * this.step ** 2;
      for (let other = 0; other < this.tokens; other += 1) out[other] += own * this.numbers[start + other];
    }
    return out;
  }

  /** From the similarity of each token with those after it. */
  ofPairs(token) {
    const place = (one, other) => one * this.tokens - (one * (one + 1)) / 2 + other - one - 1;
    const of = (_, other) => (other === token ? 1 : this.step * this.numbers[place(Math.min(token, other), Math.max(token, other))]);
    return Float32Array.from({ length: this.tokens }, of);
  }
}

/** 16-bit whole numbers from their low bytes, then their high bytes. */
function coordinates(bytes) {
  const count = bytes.length / 2;
  return Int16Array.from({ length: count }, (_, place) => bytes[place] | (bytes[count + place] << 8));
}

/** The similarities that a part of the header describes. */
export async function similaritiesOf(about, source) {
  if (!unpackedTokens.has(about)) unpackedTokens.set(about, new Similarities(about, await source.content(about)));
  return unpackedTokens.get(about);
}

/** Give a layer the tokens before and after its block, as { similarities, prefix }, or null where there are none. */
export async function loadTokens(layer, image, source) {
  if (layer.tokens) return;
  const load = async (place) => (place === null ? null : { prefix: image.tokens[place].prefix, similarities: await similaritiesOf(image.tokens[place], source) });
  const [before, after] = await Promise.all(layer.about.tokens.map(load));
  layer.tokens = { before, after };
}

/** The map of what is similar to a token, in the form of `show` (shown.js). */
export function showSimilar(layer, view, token) {
  const patch = patchAt(token, layer.about.grid);
  const empty = (note) => ({ row: 0, column: 0, ...(patch ?? {}), name: token.name ?? null, head: MEAN, note, patches: new Float32Array(layer.numPatches).fill(NaN), others: [], onPatches: NaN });
  const found = layer.tokens?.[view.place];
  if (!found) return empty(`The page has no tokens ${view.place} the block of this layer.`);
  const { similarities, prefix } = found;
  const number = patch ? prefix.length + patch.row * layer.columns + patch.column : prefix.indexOf(token.name);
  if (number < 0) return empty("This token is not known here: choose a patch.");
  const products = similarities.products(number);
  const others = prefix.map((name, place) => ({ name, share: products[place] }));
  return { ...empty(""), patches: products.slice(prefix.length), others };
}
