// A painter per unit: all maps of a page have the colours of attention, or, in another unit, a signed scale.
import { Palette, SignedPalette, SimilarityPalette } from "./colours.js";
import { Painter } from "./painter.js";
import { UNIFORM } from "./relevance.js";

export const COSINE = "cosine"; // the unit of similarities

export class Painters {
  constructor(payload) {
    this.payload = payload;
    this.painters = new Map([[UNIFORM, new Painter(new Palette(payload))], [COSINE, new Painter(new SimilarityPalette(payload))]]);
  }

  /** The painter of maps in a unit; of attention for null. */
  of(unit) {
    const own = unit ?? UNIFORM;
    if (!this.painters.has(own)) this.painters.set(own, new Painter(new SignedPalette(this.payload, own)));
    return this.painters.get(own);
  }

  /** The painter of a view's small maps. */
  ofView({ direction }) {
    return this.of(direction === "similar" ? COSINE : null);
  }
}
