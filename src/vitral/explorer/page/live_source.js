// The source of a live host: layers whose weights are asked for when they are looked at.
import { LiveLayer } from "./live_layer.js";

export class LiveSource {
  /** `ask({ image, layer, direction, token })` gives the model's answer as a Float32Array (docs/how-to/explore.md). */
  constructor(payload, ask, content, memory) {
    Object.assign(this, { payload, ask, content, memory });
    this.layers = new Map();
    this.asked = new Map(); // answers that are on their way
  }

  layer(image, place) {
    const key = `${image} ${place}`;
    if (!this.layers.has(key)) {
      const about = this.payload.images[image].layers[place];
      const layer = new LiveLayer(about, about.windows === null ? null : this.payload.windows[about.windows]);
      Object.assign(layer, { image, place });
      this.layers.set(key, layer);
    }
    return this.layers.get(key);
  }

  /** Have the weights that a map needs; of several maps that wait for the model, only the last one is asked for. */
  async prepare(layer, direction, token) {
    const turn = (this.turn = {});
    while (this.busy && !isHere(layer, direction, token)) {
      await this.busy;
      if (turn !== this.turn) return;
    }
    if (isHere(layer, direction, token)) return;
    const computed = this.compute(layer, direction, token);
    this.busy = computed.catch(() => {}).then(() => { this.busy = null; });
    await computed;
  }

  /** Ask the model, once. */
  async compute(layer, direction, token) {
    if (isHere(layer, direction, token)) return;
    const key = [layer.image, layer.place, direction, token].join(" ");
    if (!this.asked.has(key)) {
      const answer = this.ask({ image: layer.image, layer: layer.place, direction, token });
      this.asked.set(key, answer.then((weights) => layer.keep(direction, token, weights)).finally(() => this.asked.delete(key)));
    }
    await this.asked.get(key);
  }
}

/** A token that the layer does not have needs nothing. */
function isHere(layer, direction, token) {
  return token < 0 || layer.has(direction, token);
}
