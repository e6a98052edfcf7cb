// The view as a PNG: the map, the scale, and the caption below, which is also in the file's text, as in all figures of
// Vitral, with the address that opens the view.
import { address } from "./address.js";
import { element } from "./controls.js";
import { methodOf } from "./picture.js";
import { withText } from "./png_text.js";
import { drawGrid, outline } from "./stage.js";
import { toAddress } from "./view.js";
import { headName } from "./words.js";

const WIDE = 900; // pixels of the picture
const EDGE = 24;
const LINE = 22;
const GAP = 20; // between two photographs

/** The button that saves the explorer's view as a file. */
export function saveButton(explorer) {
  const button = element("button", { type: "button" }, "Save as PNG");
  button.addEventListener("click", () => saveView(explorer));
  return button;
}

/** Draw the explorer's view, one stage or two, and offer it as a file. */
function saveView({ view, about, image, payload, memory, pictures, picture, label, caption, second, secondPicture, beside }) {
  const shown = methodOf(image, view) || view.show === "photo" ? view.show : `layer-${about.number}.${headName(view.head)}.${picture.title}`;
  const model = image.model || payload.model;
  const stages = [{ ...picture, pictures, title: second ? label : "" }];
  if (second) stages.push({ ...secondPicture, pictures: second.pictures, title: second.label });
  const words = toAddress(view, payload);
  return savePng({
    stages,
    captions: [caption, ...(second ? [beside.caption] : [])].map((node) => node.textContent),
    title: second ? picture.title : `${image.name} in ${model}: ${image.answer}`,
    address: memory === address ? addressOf(window.location, words) : words, // a notebook's own may hold a password
    fileName: [image.name.replace(/\.[^.]*$/, ""), model, shown].map(asFileName).join(".") + ".png",
  });
}

async function savePng({ stages, captions, title, address, fileName }) {
  const canvas = draw(stages, captions, title);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  const png = new Uint8Array(await blob.arrayBuffer());
  const described = withText(png, "Description", [title, ...captions, `This view: ${address}`].join("\n"));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([described], { type: "image/png" }));
  link.download = fileName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

/** The address of a view. Of a page that is a file, without its folder: the picture may be passed on. */
export function addressOf({ protocol, origin, pathname }, view) {
  return protocol === "file:" ? `${decodeURIComponent(pathname.split("/").at(-1))}${view}` : `${origin}${pathname}${view}`;
}

function draw(stages, captions, title) {
  const room = (WIDE - GAP * (stages.length - 1)) / stages.length;
  const sizes = stages.map(({ pictures }) => {
    const shape = pictures.width / pictures.height;
    const width = Math.min(room, Math.round(room * shape));
    return { width: Math.round(width), height: Math.round(width / shape) };
  });
  const heading = stages.length > 1 ? 26 : 0; // pixels for the name of each of two
  const height = heading + Math.max(...sizes.map((size) => size.height));
  const measure = new OffscreenCanvas(1, 1).getContext("2d");
  const lines = captions.flatMap((caption) => wrap(measure, caption, WIDE));
  const canvas = document.createElement("canvas");
  canvas.width = WIDE + 2 * EDGE;
  canvas.height = height + 3 * EDGE + 60 + 34 + lines.length * LINE;
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#22303c";
  context.font = "600 20px system-ui, sans-serif";
  context.fillText(title, EDGE, EDGE + 16, WIDE);
  stages.forEach((stage, place) => {
    const left = EDGE + Math.round(place * (room + GAP) + (room - sizes[place].width) / 2);
    context.fillStyle = "#22303c";
    context.font = "600 15px system-ui, sans-serif";
    if (heading) context.fillText(stage.title, left, EDGE + 50, room);
    drawStage(context, stage, { left, top: EDGE + 34 + heading, ...sizes[place] });
  });
  const below = EDGE + 34 + height + 14;
  const coloured = stages.find((stage) => stage.map);
  if (coloured) drawScale(context, coloured.painter.palette, below);
  context.font = "15px system-ui, sans-serif";
  lines.forEach((line, number) => context.fillText(line, EDGE, below + 66 + number * LINE));
  return canvas;
}

function drawStage(context, { painter, pictures, map, grid, selected }, box) {
  if (map) painter.paint(context, map, pictures, box);
  else context.drawImage(pictures.at(box.width, box.height).photo, box.left, box.top);
  drawGrid(context, grid, box);
  if (selected) outline(context, selected, grid, box);
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

/** Words as a part of a file's name. */
function asFileName(words) {
  return words.replace(/[^\p{L}\p{N}.]+/gu, "-").replace(/^-+|-+$/g, "");
}
