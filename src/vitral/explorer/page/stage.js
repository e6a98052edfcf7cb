// The photograph with its patches: pointing at one, or moving to it by arrow keys, chooses it.
import { element } from "./controls.js";

const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const LARGEST = 620; // pixels of the page

export class Stage {
  /** `actions`: `point(row, column)`, `leave()`, `choose(row, column)`, `move(rows, columns)`, `key(name)`. */
  constructor(actions, describedBy) {
    this.canvas = element("canvas", { role: "img" });
    this.node = element(
      "div",
      { class: "stage", tabindex: "0", role: "application", "aria-describedby": describedBy, "aria-roledescription": "grid of patches" },
      this.canvas,
    );
    this.grid = [1, 1];
    this.node.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse") actions.point(...this.patchUnder(event));
    });
    this.node.addEventListener("pointerleave", () => actions.leave());
    this.node.addEventListener("click", (event) => actions.choose(...this.patchUnder(event)));
    this.node.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (ARROWS[event.key]) actions.move(...ARROWS[event.key]);
      else if (!actions.key(event.key)) return;
      event.preventDefault();
    });
  }

  patchUnder(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (share, count) => Math.min(count - 1, Math.max(0, Math.floor(share * count)));
    const [rows, columns] = this.grid;
    return [place((event.clientY - box.top) / box.height, rows), place((event.clientX - box.left) / box.width, columns)];
  }

  /** Draw a map, or the photograph alone, and outline the chosen patch. */
  draw({ painter, pictures, grid, map, selected, label, name }) {
    this.grid = grid;
    const { width, height } = this.fit(pictures);
    this.node.setAttribute("aria-label", name);
    this.canvas.setAttribute("aria-label", label);
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    const box = { left: 0, top: 0, width, height };
    if (map) painter.paint(context, map, pictures, box);
    else context.drawImage(pictures.at(width, height).photo, 0, 0);
    drawGrid(context, grid, box);
    if (selected) outline(context, selected, grid, box);
  }

  /** Give the canvas the pixels that it has on the screen. */
  fit(pictures) {
    const shape = pictures.width / pictures.height;
    this.node.style.maxWidth = `${Math.round(Math.min(LARGEST, LARGEST * shape))}px`;
    this.node.style.aspectRatio = `${pictures.width} / ${pictures.height}`;
    const box = this.node.getBoundingClientRect();
    const width = Math.max(1, Math.round((box.width || 300) * Math.min(2, window.devicePixelRatio || 1)));
    const height = Math.max(1, Math.round(width / shape));
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    return { width, height };
  }
}

/** Faint lines between the patches, where these are not too small. */
export function drawGrid(context, [rows, columns], { left, top, width, height }) {
  if (width / columns < 9) return;
  context.fillStyle = "rgb(34 48 60 / 0.13)";
  for (let column = 1; column < columns; column += 1) context.fillRect(left + Math.round((column * width) / columns), top, 1, height);
  for (let row = 1; row < rows; row += 1) context.fillRect(left, top + Math.round((row * height) / rows), width, 1);
}

/** White on both sides of dark: visible on every colour. */
export function outline(context, { row, column }, [rows, columns], { left, top, width, height }) {
  const [cellWidth, cellHeight] = [width / columns, height / rows];
  const unit = Math.max(1, width / 500);
  for (const [colour, line] of [["#ffffff", 5], ["#22303c", 2.5]]) {
    context.strokeStyle = colour;
    context.lineWidth = line * unit;
    context.strokeRect(left + column * cellWidth, top + row * cellHeight, cellWidth, cellHeight);
  }
}
