// The colour scale below the photograph.
import { element } from "./controls.js";

export function buildScale(palette) {
  const canvas = element("canvas", { width: 514, height: 12, "aria-hidden": "true" });
  palette.paintScale(canvas);
  const labels = palette.ticks().map(({ place, label }) => {
    const node = element("span", [0, 0.5, 1].includes(place) ? {} : { class: "between" }, label);
    node.style.left = `${place * 100}%`;
    return node;
  });
  return element("div", { class: "scale" }, canvas, element("div", { class: "scale-labels" }, ...labels));
}
