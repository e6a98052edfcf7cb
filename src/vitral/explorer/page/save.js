// The view as a PNG: the map, the scale, and the caption below.
import { drawGrid, outline } from "./stage.js";

const WIDE = 900; // pixels of the picture
const EDGE = 24;
const LINE = 22;

/** Draw the view and offer it as a file. */
export async function savePng({ painter, pictures, grid, map, selected, caption, title, fileName }) {
  const shape = pictures.width / pictures.height;
  const width = Math.min(WIDE, Math.round(WIDE * shape));
  const height = Math.round(width / shape);
  const measure = new OffscreenCanvas(1, 1).getContext("2d");
  const lines = wrap(measure, caption, WIDE);
  const canvas = document.createElement("canvas");
  canvas.width = WIDE + 2 * EDGE;
  canvas.height = height + 3 * EDGE + 60 + 34 + lines.length * LINE;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#22303c";
  context.font = "600 20px system-ui, sans-serif";
  context.fillText(title, EDGE, EDGE + 16, WIDE);
  const box = { left: EDGE + Math.round((WIDE - width) / 2), top: EDGE + 34, width, height };
  if (map) painter.paint(context, map, pictures, box);
  else context.drawImage(pictures.at(width, height).photo, box.left, box.top);
  drawGrid(context, grid, box);
  if (selected) outline(context, selected, grid, box);
  const below = box.top + height + 14;
  drawScale(context, painter.palette, below);
  context.font = "15px system-ui, sans-serif";
  lines.forEach((line, number) => context.fillText(line, EDGE, below + 66 + number * LINE));
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function drawScale(context, palette, top) {
  const bar = new OffscreenCanvas(WIDE, 12);
  palette.paintScale(bar);
  context.drawImage(bar, EDGE, top);
  context.fillStyle = "#5d6b78";
  context.font = "13px system-ui, sans-serif";
  for (const { place, label } of palette.ticks()) {
    context.textAlign = place < 0.1 ? "left" : place > 0.9 ? "right" : "center";
    context.fillText(label, EDGE + place * WIDE, top + 30);
  }
  context.textAlign = "left";
  context.fillStyle = "#22303c";
}

function wrap(context, text, width) {
  context.font = "15px system-ui, sans-serif";
  const lines = [""];
  for (const word of text.split(" ")) {
    const longer = lines.at(-1) ? `${lines.at(-1)} ${word}` : word;
    if (context.measureText(longer).width <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
