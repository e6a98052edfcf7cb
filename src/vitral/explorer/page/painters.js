// A painter per unit: all maps of a page have the colours of attention, or, in another unit, a signed scale.
import { Palette, SignedPalette } from "./colours.js";
import { Painter } from "./painter.js";
import { UNIFORM } from "./relevance.js";

export class Painters {
  constructor(payload) {
    this.payload = payload;
    this.painters = new Map([[UNIFORM, new Painter(new Palette(payload))]]);
  }

  /** The painter of maps in a unit; of attention for null. */
  of(unit) {
    const own = unit ?? UNIFORM;
    if (!this.painters.has(own)) this.painters.set(own, new Painter(new SignedPalette(this.payload, own)));
    return this.painters.get(own);
  }
}
