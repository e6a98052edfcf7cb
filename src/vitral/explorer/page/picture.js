// What stands on the photograph: the map of the chosen token, the photograph alone, or the map of a relevance method.
import { mapOfMethod } from "./methods.js";
import { relevanceCaption, relevanceTitle } from "./relevance.js";
import { caption, captionBeside, title, what } from "./words.js";

/** The method whose map a view puts on the photograph; undefined for a view of attention. */
export function methodOf(image, view) {
  return (image.methods ?? []).find((method) => method.name === view.show);
}

/** The picture of `{ image, view, about, shown }`, with its `title`, `label` and `caption`, and the painter of its unit. */
export function pictureOf({ image, view, about, shown, isSecond }, payload, painters) {
  const method = methodOf(image, view);
  if (method) {
    const map = mapOfMethod(method);
    const label = relevanceTitle(method);
    return { painter: painters.of(method.unit), map, grid: method.grid, selected: null, title: label, label, caption: relevanceCaption(method, isSecond) };
  }
  const [rows, columns] = about.grid;
  if (!["map", "photo"].includes(view.show)) {
    const none = `${view.show} has no map of this image`; // but of the one beside it
    return { painter: painters.of(null), map: null, grid: about.grid, selected: null, title: none, label: none, caption: `${none}.` };
  }
  const selected = shown.name === null ? shown : null;
  if (view.show === "photo") {
    const photo = "The photograph, as the model saw it";
    return { painter: painters.ofView(view), map: null, grid: about.grid, selected, title: photo, label: photo, caption: `${photo}.` };
  }
  return {
    painter: painters.ofView(view),
    map: { values: shown.patches, rows, columns },
    grid: about.grid,
    selected,
    title: title(view, shown),
    label: what(view, about, shown),
    caption: (isSecond ? captionBeside : caption)(view, about, shown, payload),
  };
}
