// What a view shows of a layer: the token that was chosen, or what stands in for it, and the map.
import { MEAN } from "./layer.js";
import { showSimilar } from "./similarity.js";
import { patchAt } from "./view.js";
import { tokenName } from "./words.js";

/** What a view chooses in a layer: the `number` of the query ("to") or key ("from"), or -1 if the layer does not have it, or
 *  if it compares tokens; the head, which may stand in for another; `name` of the token, or `row` and `column` of the patch;
 *  a `note`. */
export function choose(layer, view, token) {
  if (view.direction === "similar") return { number: -1, ...showSimilar(layer, view, token) };
  return view.direction === "to" ? chooseQuery(layer, view.head, token) : chooseKey(layer, view.head, token);
}

/** The map of a view, with what it chooses. */
export function show(layer, view, token) {
  const chosen = choose(layer, view, token);
  if (view.direction === "similar") return { ...chosen, direction: "similar" };
  if (chosen.number < 0) return nothing(layer, chosen);
  const [map, names] =
    view.direction === "to"
      ? [layer.outgoing(chosen.head, chosen.number), layer.keyNames]
      : [layer.incoming(chosen.head, chosen.number), layer.queryNames];
  const others = [...map.others].map((share, place) => ({ name: names[place], share }));
  return { ...chosen, direction: view.direction, patches: map.patches, others, onPatches: map.onPatches };
}

function chooseQuery(layer, head, token) {
  const names = layer.queryNames;
  const own = names.length;
  if (token.name !== undefined || !layer.patchesAttend) {
    const place = names.indexOf(token.name);
    if (place < 0 && layer.patchesAttend) return missing(head, token);
    const note = place < 0 ? "The queries of this layer are none of the image's tokens." : "";
    const number = Math.max(0, place);
    return { number, head, name: names[number], row: 0, column: 0, note };
  }
  const wanted = patchAt(token, layer.about.grid);
  const used = layer.nearestStored(head, wanted.row, wanted.column) === null ? MEAN : head;
  const number = layer.nearestStored(used, wanted.row, wanted.column);
  const patch = { row: Math.floor((number - own) / layer.columns), column: (number - own) % layer.columns };
  const moved = patch.row !== wanted.row || patch.column !== wanted.column;
  const notes = [used === head ? "" : onlyMean(head), moved ? "This is the nearest patch whose rows the page has." : ""];
  return { number, head: used, name: null, ...patch, note: notes.filter(Boolean).join(" ") };
}

function chooseKey(layer, head, token) {
  const names = layer.keyNames;
  const patch = patchAt(token, layer.about.grid);
  const number = patch ? names.length * !layer.windows + patch.row * layer.columns + patch.column : names.indexOf(token.name);
  if (number < 0) return missing(head, token);
  const used = layer.patchesAttend && layer.nearestStored(head, 0, 0) === null ? MEAN : head;
  const some = layer.patchesAttend && layer.storedQueries(used).size < layer.queryNames.length + layer.numPatches;
  const notes = [used === head ? "" : onlyMean(head), some ? "Patches without a colour are queries whose rows the page does not have." : ""];
  return { number, head: used, name: null, row: 0, column: 0, ...(patch ?? { name: token.name }), note: notes.filter(Boolean).join(" ") };
}

function missing(head, { name }) {
  return { number: -1, head, name, row: 0, column: 0, note: `This layer has no ${tokenName(name)}: choose a patch.` };
}

function nothing(layer, chosen) {
  return { ...chosen, patches: new Float32Array(layer.numPatches).fill(NaN), others: [], onPatches: NaN };
}

function onlyMean(head) {
  return `The page does not have the patches' rows of head ${head} in this layer, so heads are averaged.`;
}
