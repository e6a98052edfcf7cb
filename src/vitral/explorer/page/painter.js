// Draws maps over their photograph: the hue is the value, and the brightness within a patch is the photograph's.

const PHOTO = 0.3; // opacity of the photograph where a map has no value

export class Painter {
  constructor(palette) {
    this.palette = palette;
    this.canvases = new Map();
  }

  /** A canvas to draw on meanwhile: making new ones for each small map takes longer than drawing it. */
  scratch(width, height) {
    const key = `${width} ${height}`;
    if (!this.canvases.has(key)) {
      if (this.canvases.size > 8) this.canvases.clear();
      this.canvases.set(key, new OffscreenCanvas(width, height).getContext("2d"));
    }
    return this.canvases.get(key);
  }

  /** A canvas with one pixel per patch; patches without a value are transparent. */
  colour({ values, rows, columns }) {
    const context = this.scratch(columns, rows);
    const image = context.createImageData(columns, rows);
    this.palette.fill(image.data, values);
    context.putImageData(image, 0, 0);
    return context.canvas;
  }

  /** Draw a map, `{ values, rows, columns }`, into a box of a context. */
  paint(context, map, pictures, { left, top, width, height }) {
    const coloured = this.colour(map);
    const { photo, shade } = pictures.at(width, height);
    const above = this.scratch(width, height);
    above.globalCompositeOperation = "copy";
    above.imageSmoothingEnabled = false;
    above.drawImage(coloured, 0, 0, width, height);
    above.globalCompositeOperation = "source-atop"; // where the map has a colour
    above.drawImage(shade, 0, 0);
    if (map.values.some(Number.isNaN)) {
      context.globalAlpha = PHOTO;
      context.drawImage(photo, left, top);
      context.globalAlpha = 1;
    }
    context.drawImage(above.canvas, left, top);
  }
}
