// What the position table knows: how similar the embedding of the chosen patch's position is to those of all others.
import { element } from "./controls.js";
import { similaritiesOf } from "./similarity.js";
import { drawGrid, outline } from "./stage.js";
import { patchAt } from "./view.js";
import { extremes, placeName } from "./words.js";

const POSITION_NOTE =
  "The model adds a learned embedding to each patch, by its place. The map shows how similar that of the chosen patch is to all " +
  "others, after their mean is subtracted. It is the same for every image.";
const POSITION_SIDE = 224; // pixels of the longer side

export class PositionTable {
  constructor({ payload, source, signedPainter }) {
    this.about = payload.positions;
    this.painter = signedPainter;
    this.node = element("section", { class: "positions" }, element("h2", {}, "What the position table knows"));
    if (!this.about) {
      this.node.append(element("p", { class: "soft" }, `Not available: ${payload.whyNoPositions}`));
      return;
    }
    this.similarities = similaritiesOf(this.about, source);
    this.canvas = element("canvas", { role: "img" });
    this.text = element("p", { class: "readout" });
    this.node.append(element("p", { class: "soft" }, POSITION_NOTE), this.canvas, this.text);
  }

  async draw({ shown, about, pictures }) {
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
