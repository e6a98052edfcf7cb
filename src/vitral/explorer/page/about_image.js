// The image's name, the model's answer, and the whole photograph with the part that the model saw.
import { element } from "./controls.js";

export class AboutImage {
  constructor() {
    this.node = element("section", { class: "about-image" });
  }

  draw({ image, label }) {
    if (this.image === image && this.label === label) return;
    Object.assign(this, { image, label });
    const { pictures, answer, reader, name } = image;
    const parts = [element("h2", {}, label || name), element("p", {}, answer)];
    if (reader) parts.push(element("p", { class: "soft" }, `The prediction is read from ${reader}.`));
    if (pictures.whole) parts.push(wholePhoto(pictures, name));
    this.node.replaceChildren(...parts);
  }
}

/** The answer for the first or second image of an explorer, in a line. */
export function answerLine({ image, label }) {
  return element("span", {}, `The model's answer for ${label || image.name}: ${image.answer}`);
}

function wholePhoto(pictures, name) {
  const [left, top, right, bottom] = pictures.window;
  const frame = element("span", { class: "window" });
  Object.assign(frame.style, { left: `${left * 100}%`, top: `${top * 100}%`, width: `${(right - left) * 100}%`, height: `${(bottom - top) * 100}%` });
  const photo = element("img", { src: pictures.whole, alt: `${name}, all of it` });
  return element("figure", {}, element("div", { class: "whole" }, photo, frame), element("figcaption", {}, "The frame is what the model saw."));
}
