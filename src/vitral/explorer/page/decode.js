// Some rows of a layer, as they are stored: the largest weight of each row, and the level of each weight.
import { fromBase85 } from "./base85.js";

/** The bytes that were deflated (zlib, RFC 1950). */
export async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A source's `content`, from a function that gives the text of what the header names. */
export function contentFrom(textOf) {
  return ({ id, bytes }) => inflate(fromBase85(textOf(id), bytes));
}

/** Rows along heads, then queries; `heads` is 1 for the mean of heads. */
export class Part {
  constructor(kind, heads, queries, keys, content) {
    Object.assign(this, { kind, heads, queries, keys });
    const rows = heads * queries.length;
    this.largest = new Float32Array(content.slice(0, rows * 4).buffer);
    this.levels = content.subarray(rows * 4);
    this.place = new Map(queries.map((query, place) => [query, place]));
  }

  /** Where the row of a query begins, by the head's number; -1 for a query that is not stored. */
  rowNumber(head, query) {
    const place = this.place.get(query);
    return place === undefined ? -1 : head * this.queries.length + place;
  }
}

/** The parts of one layer, from a function that gives the text of each. */
export async function decodeParts(about, querySets, textOf) {
  return Promise.all(
    about.parts.map(async (part) => {
      const content = await inflate(fromBase85(textOf(part.id), part.bytes));
      const heads = part.heads === "each" ? about.heads : 1;
      return new Part(part.heads, heads, querySets[part.queries], about.keys, content);
    }),
  );
}
