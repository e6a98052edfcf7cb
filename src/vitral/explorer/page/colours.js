// The colour scale of the payload: blue below 1× uniform, grey at it, orange above, by equal ratios.

/** The colour of each value, for the payload's scale. */
export class Palette {
  constructor(payload) {
    this.colours = payload.colours.map((hex) => [0, 2, 4].map((start) => parseInt(hex.slice(start, start + 2), 16)));
    this.limit = payload.limit;
    this.octaves = 2 * Math.log2(this.limit);
    this.shade = payload.shade;
  }

  /** The number of the colour of a multiple of uniform. */
  numberOf(value) {
    const count = this.colours.length;
    const place = value > 0 ? 0.5 + Math.log2(value) / this.octaves : 0;
    return Math.min(count - 1, Math.max(0, Math.floor(place * count)));
  }

  /** Fill pixels with the colours of values; those without a value stay transparent. */
  fill(data, values) {
    for (let patch = 0, at = 0; patch < values.length; patch += 1, at += 4) {
      if (Number.isNaN(values[patch])) continue;
      const colour = this.colours[this.numberOf(values[patch])];
      data[at] = colour[0];
      data[at + 1] = colour[1];
      data[at + 2] = colour[2];
      data[at + 3] = 255;
    }
  }

  /** Values and labels of the scale's ends, its middle and what lies between. */
  ticks() {
    const top = Math.round(Math.log2(this.limit));
    const powers = top <= 3 ? [...Array(2 * top + 1).keys()].map((step) => step - top) : [-top, -2, 0, 2, top];
    return powers.map((power) => {
      const name = power >= 0 ? `${2 ** power}×` : `1/${2 ** -power}×`;
      const label = power === 0 ? "1× uniform" : Math.abs(power) === top ? `${name} or ${power < 0 ? "less" : "more"}` : name;
      return { place: 0.5 + power / (2 * top), label };
    });
  }

  /** Draw the scale over a canvas, from left to right. */
  paintScale(canvas) {
    const context = canvas.getContext("2d");
    const count = this.colours.length;
    for (let x = 0; x < canvas.width; x += 1) {
      context.fillStyle = `rgb(${this.colours[Math.floor((x / canvas.width) * count)].join(" ")})`;
      context.fillRect(x, 0, 1, canvas.height);
    }
  }
}

/** The scale of maps in a unit such as logits: grey at 0, orange for the class, blue against it. */
export class SignedPalette extends Palette {
  constructor(payload, unit) {
    super(payload);
    this.limit = payload.units[unit];
  }

  numberOf(value) {
    const count = this.colours.length;
    return Math.min(count - 1, Math.max(0, Math.floor((0.5 + value / (2 * this.limit)) * count)));
  }

  ticks() {
    const [end, half] = [this.limit, this.limit / 2].map((value) => String(Number(value.toPrecision(2))));
    return [`−${end} against`, `−${half}`, "0", `+${half}`, `+${end} for`].map((label, step) => ({ place: step / 4, label }));
  }
}

/** The colour of each similarity: blue at -1, grey at 0, orange at 1. */
export class SimilarityPalette extends Palette {
  numberOf(value) {
    const count = this.colours.length;
    return Math.min(count - 1, Math.max(0, Math.floor((0.5 + value / 2) * count)));
  }

  ticks() {
    const labels = ["−1 opposite", "−0.5", "0", "0.5", "1 alike"];
    return labels.map((label, number) => ({ place: number / 4, label }));
  }
}
