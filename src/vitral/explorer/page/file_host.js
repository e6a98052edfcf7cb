// The host that is a file: everything is inside, and each layer is unpacked when it is first looked at.
import { fromBase85 } from "./base85.js";
import { decodeParts, inflate } from "./decode.js";
import { explore } from "./explorer.js";
import { Layer } from "./layer.js";

const payload = JSON.parse(document.getElementById("payload").textContent);
const levels = Float32Array.from(payload.levels);
const layers = new Map();

const textOf = (id) => document.getElementById(id).textContent;

/** The bytes of an element that the header names. */
async function contentOf({ id, bytes }) {
  return inflate(fromBase85(textOf(id), bytes));
}

async function layerOf(image, place) {
  const key = `${image} ${place}`;
  if (!layers.has(key)) {
    const about = payload.images[image].layers[place];
    const parts = decodeParts(about, payload.querySets, textOf);
    const windows = about.windows === null ? null : payload.windows[about.windows];
    layers.set(key, parts.then((found) => new Layer(about, found, windows, levels)));
  }
  return layers.get(key);
}

if (document.documentElement.classList.contains("can-explore")) {
  try {
    window.explorer = await explore(document.getElementById("explorer"), { payload, layer: layerOf, content: contentOf });
  } catch (error) {
    document.documentElement.classList.remove("can-explore"); // the still pictures come back
    document.getElementById("why-still").textContent = `The explorer could not start: ${error.message}`;
    throw error;
  }
}
