// The pictures of an image, and the shade that the photograph casts on the colours above it.

const LUMINANCE = [0.299, 0.587, 0.114];
const MOST_SIZES = 6;

async function load(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

/** What the model saw: the sharpest picture of it, and black with the photograph's darkness as opacity, at any size. */
export class Pictures {
  constructor(photo, strength, { width, height }) {
    Object.assign(this, { photo, width, height });
    this.shade = shadeOf(photo, strength);
    this.sizes = new Map();
  }

  /** Both in a number of pixels; the last few sizes are kept, since drawing large pictures small takes long. */
  at(width, height) {
    const key = `${width} ${height}`;
    if (!this.sizes.has(key)) {
      if (this.sizes.size >= MOST_SIZES) this.sizes.delete(this.sizes.keys().next().value);
      this.sizes.set(key, { photo: resized(this.photo, width, height), shade: resized(this.shade, width, height) });
    }
    return this.sizes.get(key);
  }
}

export async function loadPictures(pictures, strength) {
  return new Pictures(await load(pictures.sharp ?? pictures.seen), strength, pictures);
}

function resized(picture, width, height) {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, 0, 0, width, height);
  return canvas;
}

/** From 0 at the photograph's brightest pixel to `strength` where it is black; the root lifts its dark parts. */
function shadeOf(photo, strength) {
  const canvas = new OffscreenCanvas(photo.naturalWidth, photo.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(photo, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const light = new Float32Array(pixels.data.length / 4);
  let largest = 1;
  for (let pixel = 0; pixel < light.length; pixel += 1) {
    for (let colour = 0; colour < 3; colour += 1) light[pixel] += LUMINANCE[colour] * pixels.data[pixel * 4 + colour];
    largest = Math.max(largest, light[pixel]);
  }
  for (let pixel = 0; pixel < light.length; pixel += 1) {
    pixels.data.set([0, 0, 0, 255 * strength * (1 - Math.sqrt(light[pixel] / largest))], pixel * 4);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}
