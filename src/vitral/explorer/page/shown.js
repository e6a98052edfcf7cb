// What a view shows of a layer: the token that was chosen, or what stands in for it, and the map.
import { MEAN } from "./layer.js";
import { showSimilar } from "./similarity.js";
import { patchAt } from "./view.js";
import { tokenName } from "./words.js";

/** The map of a view, with `name` of the token, or `row` and `column` of the patch, and a `note` on what stands in. */
export function show(layer, view, token) {
  if (view.direction === "similar") return showSimilar(layer, view, token);
  return view.direction === "to" ? showOutgoing(layer, view.head, token) : showIncoming(layer, view.head, token);
}

function showOutgoing(layer, head, token) {
  const names = layer.queryNames;
  const own = names.length;
  if (token.name !== undefined || !layer.patchesAttend) {
    const place = names.indexOf(token.name);
    if (place < 0 && layer.patchesAttend) return nothing(layer, head, token);
    const note = place < 0 ? "The queries of this layer are none of the image's tokens." : "";
    return filled(layer, layer.outgoing(head, Math.max(0, place)), head, { name: names[Math.max(0, place)] }, note, layer.keyNames);
  }
  const wanted = patchAt(token, layer.about.grid);
  const used = layer.nearestStored(head, wanted.row, wanted.column) === null ? MEAN : head;
  const query = layer.nearestStored(used, wanted.row, wanted.column);
  const patch = { row: Math.floor((query - own) / layer.columns), column: (query - own) % layer.columns };
  const moved = patch.row !== wanted.row || patch.column !== wanted.column;
  const notes = [used === head ? "" : onlyMean(head), moved ? "This is the nearest patch whose rows the page has." : ""];
  return filled(layer, layer.outgoing(used, query), used, patch, notes.filter(Boolean).join(" "), layer.keyNames);
}

function showIncoming(layer, head, token) {
  const names = layer.keyNames;
  const patch = patchAt(token, layer.about.grid);
  const key = patch ? names.length * !layer.windows + patch.row * layer.columns + patch.column : names.indexOf(token.name);
  if (key < 0) return nothing(layer, head, token);
  const used = layer.patchesAttend && layer.nearestStored(head, 0, 0) === null ? MEAN : head;
  const map = layer.incoming(used, key);
  const some = layer.patchesAttend && layer.storedQueries(used).size < layer.queryNames.length + layer.numPatches;
  const notes = [used === head ? "" : onlyMean(head), some ? "Patches without a colour are queries whose rows the page does not have." : ""];
  return filled(layer, map, used, patch ?? { name: token.name }, notes.filter(Boolean).join(" "), layer.queryNames);
}

function filled(layer, map, head, chosen, note, names) {
  const others = [...map.others].map((share, place) => ({ name: names[place], share }));
  return { name: null, row: 0, column: 0, ...chosen, head, note, patches: map.patches, others, onPatches: map.onPatches };
}

function nothing(layer, head, token) {
  const patches = new Float32Array(layer.numPatches).fill(NaN);
  const note = `This layer has no ${tokenName(token.name)}: choose a patch.`;
  return { name: token.name, row: 0, column: 0, head, note, patches, others: [], onPatches: NaN };
}

function onlyMean(head) {
  return `The page does not have the patches' rows of head ${head} in this layer, so heads are averaged.`;
}
