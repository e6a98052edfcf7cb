// What the page shows, and the address that opens it again.
//
// image, layer  places in the payload      head  a number, or "mean"      direction  "to", "from" or "similar"
// show          "map", "photo", or the name of a relevance method
// beside        the place of a second image, or null
// place         "before" or "after" the block, of similar tokens      broken  the text of broken.js
// token         { name } of CLS or a register, or { y, x }: the middle of a patch, as shares of the image, so that it stays
//               at its place where layers have other grids
import { MEAN } from "./layer.js";
import { partnerOf } from "./pair.js";

/** The view that a page opens with: the last layer, from CLS, or from the patch in the middle. */
export function firstView(payload, image = 0) {
  const layers = payload.images[image].layers;
  const last = layers[layers.length - 1];
  const token = last.prefix.includes("cls") && !last.ownQueries ? { name: "cls" } : { y: 0.5, x: 0.5 };
  return { image, layer: layers.length - 1, head: MEAN, token, direction: "to", show: "map", beside: partnerOf(payload, image), place: "after", broken: "" };
}

/** The row and column of a token's patch on a grid; null for CLS and registers. */
export function patchAt(token, [rows, columns]) {
  if (token.name !== undefined) return null;
  const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
  return { row: place(token.y, rows), column: place(token.x, columns) };
}

/** The token of the patch in a row and column of a grid. */
export function tokenAt(row, column, [rows, columns]) {
  return { y: (row + 0.5) / rows, x: (column + 0.5) / columns };
}

/** The view as the part of an address after #. */
export function toAddress(view, payload) {
  const layer = payload.images[view.image].layers[view.layer];
  const patch = patchAt(view.token, layer.grid);
  const token = patch ? `${patch.row},${patch.column}` : view.token.name;
  const words = { image: view.image, layer: layer.number, head: view.head, token, direction: view.direction, show: view.show };
  if (view.direction === "similar") words.tokens = view.place;
  if (view.broken) words.broken = view.broken;
  if (payload.images.length > 1) words.beside = view.beside ?? "nothing";
  return `#${new URLSearchParams(words)}`;
}

/** The view of an address; what it does not say, or says wrongly, is that of the first view. */
export function fromAddress(address, payload) {
  const words = new URLSearchParams(address.replace(/^#/, ""));
  const number = (name, count) => {
    const value = words.get(name);
    return value !== null && /^\d+$/.test(value) && Number(value) < count ? Number(value) : null;
  };
  const view = firstView(payload, number("image", payload.images.length) ?? 0);
  const layers = payload.images[view.image].layers;
  const layer = layers.findIndex((one) => String(one.number) === words.get("layer"));
  if (layer >= 0) view.layer = layer;
  view.head = number("head", layers[view.layer].heads) ?? MEAN;
  if (words.get("direction") === "from") view.direction = "from";
  if (words.get("direction") === "similar" && hasTokens(payload)) view.direction = "similar";
  if (words.get("tokens") === "before") view.place = "before";
  view.broken = words.get("broken") ?? "";
  const methods = payload.images[view.image].methods ?? [];
  if (["photo", ...methods.map((method) => method.name)].includes(words.get("show"))) view.show = words.get("show");
  const beside = number("beside", payload.images.length);
  if (beside !== null && beside !== view.image) view.beside = beside;
  if (words.get("beside") === "nothing") view.beside = null;
  const [rows, columns] = layers[view.layer].grid;
  const patch = /^(\d+),(\d+)$/.exec(words.get("token") ?? "");
  if (patch && Number(patch[1]) < rows && Number(patch[2]) < columns) {
    view.token = tokenAt(Number(patch[1]), Number(patch[2]), [rows, columns]);
  } else if (layers[view.layer].prefix.includes(words.get("token"))) {
    view.token = { name: words.get("token") };
  }
  return view;
}

/** Whether any image of a payload has tokens to compare. */
export function hasTokens(payload) {
  return payload.images.some((image) => (image.tokens ?? []).some(Boolean));
}
