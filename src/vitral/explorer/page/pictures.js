// The pictures of an image, and the shade that the photograph casts on the colours above it.

const LUMINANCE = [0.299, 0.587, 0.114];

async function load(uri) {
  const image = new Image();
  image.src = uri;
  await image.decode();
  return image;
}

/** `photo` is the sharpest picture of what the model saw, and `shade` black with the photograph's darkness as opacity. */
export async function loadPictures(pictures, strength) {
  const photo = await load(pictures.sharp ?? pictures.seen);
  return { photo, shade: shadeOf(photo, strength), width: pictures.width, height: pictures.height };
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

/** Draw a map over its photograph: the hue is the value, and the brightness within a patch is the photograph's. */
export function paintMap(context, map, pictures, box) {
  const { left, top, width, height } = box;
  const layer = new OffscreenCanvas(width, height);
  const above = layer.getContext("2d");
  above.imageSmoothingEnabled = false;
  above.drawImage(map, 0, 0, width, height);
  above.globalCompositeOperation = "source-atop"; // where the map has a colour
  above.imageSmoothingEnabled = true;
  above.drawImage(pictures.shade, 0, 0, width, height);
  context.globalAlpha = 0.3;
  context.drawImage(pictures.photo, left, top, width, height);
  context.globalAlpha = 1;
  context.drawImage(layer, left, top);
}
