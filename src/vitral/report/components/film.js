// The training film: one picture per frame, moved by a slider or played.
import { Slider } from "./controls.js";

const PACE = 350; // milliseconds per frame

/** Put the controls below the picture. A frame is `[address of its picture, its name]`. */
export function startFilm(frames, image, below) {
  const slider = new Slider("training step", show, PACE);
  function show(index) {
    const [source, name] = frames[index];
    image.src = source;
    image.alt = `Attention from CLS to the patches of a few images, one row per block, at ${name}`;
    slider.show(index, frames.length - 1, name);
  }
  below.replaceChildren(slider.node, slider.text);
  show(frames.length - 1);
}
