// The forward pass of one of Vitral's plain ViTs, as in src/vitral/nn, with parts of it missing where `broken` says so.
// Tensors are flat Float64Arrays along tokens, then channels; weights have the names of the model's own state.
//
//     n tokens   p patches   d width   h heads   e width of a head

const QK_EPSILON = 1e-6; // of the norms of queries and keys

/** Nothing is missing. Blocks are numbers; a head is "block-head"; `order` has the patch that takes each place. */
export const WHOLE = { blocks: [], heads: [], positions: "learned", patches: "in place", cutsCls: false, order: [] };

export class Network {
  /** `about` is the payload's `network`, `bytes` are its weights: half-precision numbers, tensor after tensor. */
  constructor(about, bytes) {
    this.about = about;
    this.numPatches = about.grid[0] * about.grid[1];
    this.numTokens = about.prefix + this.numPatches;
    this.weights = new Map();
    let from = 0;
    for (const [name, shape] of about.tensors) {
      const count = shape.reduce((product, side) => product * side, 1);
      this.weights.set(name, fromHalf(bytes, from, count));
      from += 2 * count;
    }
  }

  get(name) {
    return this.weights.get(name);
  }

  /** Images' bytes, along rows, columns, colours -> one number per class. */
  logits(pixels, broken = WHOLE) {
    let x = this.embed(pixels, broken);
    for (let number = 0; number < this.about.depth; number += 1) {
      if (!broken.blocks.includes(number)) x = this.block(x, number, broken);
    }
    const { width, eps } = this.about;
    return this.linear(this.pool(this.norm(x, "norm", width, eps)), "head");
  }

  /** The tokens that enter the first block: CLS and registers, then patches, with their positions. */
  embed(pixels, broken) {
    const { width, prefix, tokens } = this.about;
    const x = new Float64Array(this.numTokens * width);
    let at = 0;
    for (const name of tokens) {
      x.set(this.get(name), at);
      at += this.get(name).length;
    }
    x.set(this.linear(this.patches(pixels, broken), "patch_embed.proj"), prefix * width);
    const table = this.get("pos_embed");
    for (let token = 0; table && token < this.numTokens; token += 1) {
      const row = this.rowOfTable(token, broken);
      for (let channel = 0; row >= 0 && channel < width; channel += 1) x[token * width + channel] += table[row * width + channel];
    }
    return x;
  }

  /** The row of the table that a token gets; -1 for none. */
  rowOfTable(token, { positions, order }) {
    const patch = token - this.about.prefix;
    if (patch < 0 || positions === "learned") return token;
    return positions === "zero" ? -1 : this.about.prefix + order[patch];
  }

  /** Normalized pixels, one row per patch: along channels, rows, columns, as a convolution's weight counts them. */
  patches(pixels, broken) {
    const { grid, patch, channels, luminance, mean, std } = this.about;
    const [height, width] = patch;
    const out = new Float64Array(this.numPatches * channels * height * width);
    let to = 0;
    for (let place = 0; place < this.numPatches; place += 1) {
      const from = broken.patches === "shuffled" ? broken.order[place] : place;
      const [top, left] = [Math.floor(from / grid[1]) * height, (from % grid[1]) * width];
      for (let channel = 0; channel < channels; channel += 1) {
        for (let row = 0; row < height; row += 1) {
          for (let column = 0; column < width; column += 1, to += 1) {
            const at = 3 * ((top + row) * grid[1] * width + left + column);
            const value = luminance ? luminance.reduce((sum, share, colour) => sum + share * pixels[at + colour], 0) : pixels[at + channel];
            out[to] = (value / 255 - mean[channel]) / std[channel];
          }
        }
      }
    }
    return out;
  }

  /** x + attn(norm1(x)), then x + mlp(norm2(x)), each scaled where the model has LayerScale. */
  block(x, number, broken) {
    const { width, eps, tanh } = this.about;
    const name = `blocks.${number}`;
    let y = add(x, this.scaled(this.attention(this.norm(x, `${name}.norm1`, width, eps), number, broken), `${name}.ls1.gamma`));
    const hidden = this.linear(this.norm(y, `${name}.norm2`, width, eps), `${name}.mlp.fc1`).map(tanh ? geluTanh : gelu);
    return add(y, this.scaled(this.linear(hidden, `${name}.mlp.fc2`), `${name}.ls2.gamma`));
  }

  /** softmax(q kᵀ / √e) v in each head. */
  attention(x, number, broken) {
    const { width, heads } = this.about;
    const name = `blocks.${number}.attn`;
    const n = this.numTokens;
    const e = width / heads;
    const qkv = this.linear(x, `${name}.qkv`);
    const out = new Float64Array(n * width);
    for (let head = 0; head < heads; head += 1) {
      if (broken.heads.includes(`${number}-${head}`)) continue; // its output stays zero
      const [q, k, v] = [0, 1, 2].map((part) => columnsOf(qkv, n, 3 * width, part * width + head * e, e));
      const queries = this.norm(q, `${name}.q_norm`, e, QK_EPSILON);
      const keys = this.norm(k, `${name}.k_norm`, e, QK_EPSILON);
      const weights = new Float64Array(n);
      for (let query = 0; query < n; query += 1) {
        if (broken.cutsCls && query === 0) weights.fill(0).fill(1, 0, 1);
        else softmax(weights, (key) => dot(queries, query * e, keys, key * e, e) / Math.sqrt(e));
        for (let key = 0; key < n; key += 1) {
          for (let channel = 0; channel < e; channel += 1) out[query * width + head * e + channel] += weights[key] * v[key * e + channel];
        }
      }
    }
    return this.linear(out, `${name}.proj`);
  }

  /** The class token, or the mean of the patches. */
  pool(x) {
    const { width, prefix, pool } = this.about;
    if (pool === "first") return x.subarray(0, width);
    const mean = new Float64Array(width);
    for (let at = prefix * width; at < x.length; at += 1) mean[at % width] += x[at] / this.numPatches;
    return mean;
  }

  /** Rows times the weight's rows, and the bias. */
  linear(x, name) {
    const [weight, bias] = [this.get(`${name}.weight`), this.get(`${name}.bias`)];
    const outputs = this.about.tensors.find(([own]) => own === `${name}.weight`)[1][0];
    const inputs = weight.length / outputs;
    const rows = x.length / inputs;
    const out = new Float64Array(rows * outputs);
    for (let row = 0; row < rows; row += 1) {
      for (let output = 0; output < outputs; output += 1) {
        out[row * outputs + output] = dot(x, row * inputs, weight, output * inputs, inputs) + (bias ? bias[output] : 0);
      }
    }
    return out;
  }

  /** Layer norm of each row; the rows themselves where the model has none of this name. */
  norm(x, name, width, epsilon) {
    const [weight, bias] = [this.get(`${name}.weight`), this.get(`${name}.bias`)];
    if (!weight) return x;
    const out = new Float64Array(x.length);
    for (let start = 0; start < x.length; start += width) {
      let mean = 0;
      for (let channel = 0; channel < width; channel += 1) mean += x[start + channel] / width;
      let variance = 0;
      for (let channel = 0; channel < width; channel += 1) variance += (x[start + channel] - mean) ** 2 / width;
      const factor = 1 / Math.sqrt(variance + epsilon);
      for (let channel = 0; channel < width; channel += 1) out[start + channel] = (x[start + channel] - mean) * factor * weight[channel] + bias[channel];
    }
    return out;
  }

  /** LayerScale, where the model has it. */
  scaled(x, name) {
    const gamma = this.get(name);
    return gamma ? x.map((value, at) => value * gamma[at % gamma.length]) : x;
  }
}

/** What a person reads of the logits: probabilities, or the numbers themselves. */
export function valuesOf(logits, { task, temperature }) {
  if (task === "numbers") return logits;
  if (task === "several classes") return logits.map((logit) => 1 / (1 + Math.exp(-logit)));
  const shares = new Float64Array(logits.length);
  softmax(shares, (place) => logits[place] / (temperature ?? 1));
  return shares;
}

/** Half-precision numbers (IEEE 754 binary16, little-endian). */
export function fromHalf(bytes, from, count) {
  const out = new Float64Array(count);
  for (let place = 0; place < count; place += 1) {
    const bits = bytes[from + 2 * place] | (bytes[from + 2 * place + 1] << 8);
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    out[place] = bits >> 15 ? -size : size;
  }
  return out;
}

function add(x, y) {
  return x.map((value, at) => value + y[at]);
}

function dot(x, fromX, y, fromY, count) {
  let sum = 0;
  for (let place = 0; place < count; place += 1) sum += x[fromX + place] * y[fromY + place];
  return sum;
}

/** Some columns of rows that have `width` of them. */
function columnsOf(x, rows, width, first, count) {
  const out = new Float64Array(rows * count);
  for (let row = 0; row < rows; row += 1) out.set(x.subarray(row * width + first, row * width + first + count), row * count);
  return out;
}

/** Fill `out` with the softmax of scores. */
function softmax(out, score) {
  let largest = -Infinity;
  for (let place = 0; place < out.length; place += 1) {
    out[place] = score(place);
    largest = Math.max(largest, out[place]);
  }
  let sum = 0;
  for (let place = 0; place < out.length; place += 1) {
    out[place] = Math.exp(out[place] - largest);
    sum += out[place];
  }
  for (let place = 0; place < out.length; place += 1) out[place] /= sum;
}

function gelu(x) {
  return 0.5 * x * complementOfErf(-x / Math.SQRT2);
}

function geluTanh(x) {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}

/** 1 - erf(x), to 1.2e-7 of itself: Chebyshev's fit of Press et al., "Numerical Recipes in C", 2nd edition, §6.2. */
function complementOfErf(x) {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const fit = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const value = t * Math.exp(-x * x + fit.reduceRight((sum, factor) => sum * t + factor, 0));
  return x >= 0 ? value : 2 - value;
}
