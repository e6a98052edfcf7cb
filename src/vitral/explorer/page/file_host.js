// The host that is a file: everything is inside, and each layer is unpacked when it is first looked at.
import { contentFrom, decodeParts } from "./decode.js";
import { explore } from "./explorer.js";
import { StoredLayer } from "./stored_layer.js";

const payload = JSON.parse(document.getElementById("payload").textContent);
const levels = Float32Array.from(payload.levels);
const layers = new Map();

const textOf = (id) => document.getElementById(id).textContent;

async function layerOf(image, place) {
  const key = `${image} ${place}`;
  if (!layers.has(key)) {
    const about = payload.images[image].layers[place];
    const parts = decodeParts(about, payload.querySets, textOf);
    const windows = about.windows === null ? null : payload.windows[about.windows];
    layers.set(key, parts.then((found) => new StoredLayer(about, found, windows, levels)));
  }
  return layers.get(key);
}

if (document.documentElement.classList.contains("can-explore")) {
  try {
    window.explorer = await explore(document.getElementById("explorer"), { payload, layer: layerOf, content: contentFrom(textOf) });
  } catch (error) {
    document.documentElement.classList.remove("can-explore"); // the still pictures come back
    document.getElementById("why-still").textContent = `The explorer could not start: ${error.message}`;
    throw error;
  }
}
