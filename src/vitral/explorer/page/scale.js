// The colour scale below the photograph, of what stands on it.
import { element } from "./controls.js";

export class Scale {
  constructor() {
    this.canvas = element("canvas", { width: 514, height: 12, "aria-hidden": "true" });
    this.labels = element("div", { class: "scale-labels" });
    this.node = element("div", { class: "scale" }, this.canvas, this.labels);
  }

  /** The scale of the maps that stand on the photographs; none where no map does. */
  draw(...pictures) {
    const { painter } = pictures.find((one) => one?.map) ?? {};
    this.node.hidden = !painter;
    if (!painter) return;
    const { palette } = painter;
    if (this.palette === palette) return;
    this.palette = palette;
    palette.paintScale(this.canvas);
    const labels = palette.ticks().map(({ place, label }) => {
      const node = element("span", [0, 0.5, 1].includes(place) ? {} : { class: "between" }, label);
      node.style.left = `${place * 100}%`;
      return node;
    });
    this.labels.replaceChildren(...labels);
  }
}
