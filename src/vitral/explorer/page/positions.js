// What the position table knows: how similar the embedding of the chosen patch's position is to those of all others.
import { element } from "./controls.js";
import { COSINE } from "./painters.js";
import { modelOf } from "./pair.js";
import { similaritiesOf } from "./similarity.js";
import { drawGrid, outline } from "./stage.js";
import { patchAt } from "./view.js";
import { extremes, placeName } from "./words.js";

const POSITION_NOTE =
  "The model adds a learned embedding to each patch, by its place. The map shows how similar that of the chosen patch is to all " +
  "others, after their mean is subtracted. It is the same for every image. Values are off by at most 0.01.";
const POSITION_SIDE = 224; // pixels of the longer side

export class PositionTable {
  constructor({ source, painters }) {
    this.source = source;
    this.painter = painters.of(COSINE);
    this.canvas = element("canvas", { role: "img" });
    this.text = element("p", { class: "readout" });
    this.node = element("section", { class: "positions" });
  }

  /** The section of a model. */
  build(own, label) {
    Object.assign(this, { own, label, about: own.positions, key: "" });
    const title = element("h2", {}, `What the position table knows${label ? `: ${label}` : ""}`);
    if (!this.about) return this.node.replaceChildren(title, element("p", { class: "soft" }, `Not available: ${own.whyNoPositions}`));
    this.similarities = similaritiesOf(this.about, this.source);
    return this.node.replaceChildren(title, element("p", { class: "soft" }, POSITION_NOTE), this.canvas, this.text);
  }

  async draw({ payload, image, shown, about, pictures, label }) {
    const own = modelOf(payload, image);
    if (own !== this.own || label !== this.label) this.build(own, label);
    if (!this.about) return;
    const [rows, columns] = this.about.grid;
    const share = (place, count) => (place + 0.5) / count;
    const chosen = shown.name === null ? { y: share(shown.row, about.grid[0]), x: share(shown.column, about.grid[1]) } : { y: 0.5, x: 0.5 };
    const { row, column } = patchAt(chosen, this.about.grid);
    const shape = pictures.width / pictures.height;
    const key = `${row} ${column} ${shown.name === null} ${shape}`;
    if (this.key === key) return;
    this.key = key;
    const values = (await this.similarities).products(row * columns + column);
    if (this.key !== key) return; // another patch was chosen meanwhile
    const [width, height] = shape >= 1 ? [POSITION_SIDE, Math.round(POSITION_SIDE / shape)] : [Math.round(POSITION_SIDE * shape), POSITION_SIDE];
    this.values = values;
    Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(this.painter.colour({ values, rows, columns }), 0, 0, width, height);
    const box = { left: 0, top: 0, width, height };
    drawGrid(context, [rows, columns], box);
    outline(context, { row, column }, [rows, columns], box);
    const place = placeName(row, column);
    const found = extremes(values, columns, row * columns + column);
    this.canvas.setAttribute("aria-label", `Similarity of the position in ${place} with all others: ${found}`);
    const middle = shown.name === null ? "" : "This token has no place in the image, so the patch in the middle is shown. ";
    this.text.textContent = `${middle}Position in ${place}: ${found} Orange is alike (1), grey unrelated (0), blue opposite (−1).`;
  }
}
