// Which parts of a model are missing, as the forward pass takes it, as a text in the address, and in words.
//
//     b2  block 2      h1-3  head 3 of block 1      pz, ps  positions zero, shuffled      ts  patches shuffled
//     c  CLS is cut off      o5  the fifth other order of patches
import { WHOLE } from "./forward.js";

const WORDS = { pz: { positions: "zero" }, ps: { positions: "shuffled" }, ts: { patches: "shuffled" }, c: { cutsCls: true } };

/** What a text of the address leaves out of a network; words that do not fit it are passed over. */
export function brokenFrom(text, about) {
  const broken = { ...WHOLE, blocks: [], heads: [], seed: 1 };
  for (const word of text.split(".")) {
    const [, kind, first, second] = /^([bho])(\d+)(?:-(\d+))?$/.exec(word) ?? [];
    if (kind === "b" && Number(first) < about.depth) broken.blocks.push(Number(first));
    else if (kind === "h" && Number(first) < about.depth && Number(second) < about.heads) broken.heads.push(`${Number(first)}-${Number(second)}`);
    else if (kind === "o") broken.seed = Number(first) || 1;
    else if (Object.hasOwn(WORDS, word)) Object.assign(broken, WORDS[word]);
  }
  broken.cutsCls = broken.cutsCls && about.tokens[0] === "cls_token";
  if (!about.positions) broken.positions = "learned";
  broken.order = isShuffled(broken) ? permutation(about.grid[0] * about.grid[1], broken.seed) : [];
  return broken;
}

/** The text of what is left out. */
export function brokenText({ blocks, heads, positions, patches, cutsCls, seed }) {
  const words = [...blocks.toSorted().map((block) => `b${block}`), ...heads.map((head) => `h${head}`)];
  if (positions !== "learned") words.push(positions === "zero" ? "pz" : "ps");
  if (patches === "shuffled") words.push("ts");
  if (cutsCls) words.push("c");
  if (seed > 1) words.push(`o${seed}`);
  return words.join(".");
}

export function isShuffled({ positions, patches }) {
  return positions === "shuffled" || patches === "shuffled";
}

/** What is missing, in words; empty if nothing is. */
export function inWords({ blocks, heads, positions, patches, cutsCls }) {
  const parts = blocks.map((block) => `block ${block}`);
  parts.push(...heads.map((one) => one.split("-")).map(([block, head]) => `head ${head} of block ${block}`));
  if (positions !== "learned") parts.push(positions === "zero" ? "positions" : "the order of positions");
  if (patches === "shuffled") parts.push("the order of patches");
  if (cutsCls) parts.push("what CLS gets from other tokens");
  return parts.join(", ");
}

/** The numbers below `count` in an order that follows from a seed (Fisher and Yates, with the generator mulberry32). */
export function permutation(count, seed) {
  let state = seed >>> 0;
  const random = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  const order = [...Array(count).keys()];
  for (let last = count - 1; last > 0; last -= 1) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
}
