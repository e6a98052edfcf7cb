// Two images of a payload beside each other: two photographs, or one photograph in two models.

/** What tells an image apart from the others of its page. */
export function entryName({ name, model }) {
  return model ? `${name}, ${model}` : name;
}

/** What the header says of the model that an image was given to. */
export function modelOf(payload, image) {
  return payload.models.find((one) => one.name === image.model);
}

/** The place of the same photograph in the other model of a page; null if the page has one model. */
export function partnerOf(payload, image) {
  const { photo, model } = payload.images[image];
  const place = payload.images.findIndex((one) => one.photo === photo && one.model !== model);
  return place < 0 ? null : place;
}

/** What stands beside `image` after it was chosen in a view: the same model or photograph as before, as far as it can. */
export function besideAfter(payload, view, image) {
  if (view.beside === null || image === view.image) return view.beside;
  if (view.beside === partnerOf(payload, view.image)) return partnerOf(payload, image);
  return view.beside === image ? view.image : view.beside;
}

/** The layer of the second image that stands beside one of the first: at the same share of the depth. */
export function layerBeside(layer, count, otherCount) {
  return count < 2 ? otherCount - 1 : Math.round((layer * (otherCount - 1)) / (count - 1));
}

/**
 * A token of one image in another: CLS by its name; a patch by its share of what the model saw, or, of the same
 * photograph, by its place there, since two models may see different parts of it. `isOutside` if the other saw less.
 */
export function tokenBeside(token, from, to) {
  if (token.name !== undefined || from.photo !== to.photo) return { token, isOutside: false };
  const along = (share, near, far) => {
    const place = from.pictures.window[near] + share * (from.pictures.window[far] - from.pictures.window[near]);
    return (place - to.pictures.window[near]) / (to.pictures.window[far] - to.pictures.window[near]);
  };
  const [x, y] = [along(token.x, 0, 2), along(token.y, 1, 3)];
  return { token: { y, x }, isOutside: Math.min(x, y) < 0 || Math.max(x, y) >= 1 };
}
