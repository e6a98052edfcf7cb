// The words of the page, for who has not met them, and its keys.
import { element } from "./controls.js";

const EXPLAINED = [
  ["patch", "The image is cut into squares. Each enters the model as a token: a list of numbers. Rows and columns are counted from 0, from the top left."],
  ["CLS, register", "A token without a place in the image. Many models read their answer from CLS."],
  ["block, layer", "The model is a stack of blocks. Attention layers are where tokens take in what others carry; most blocks have one."],
  ["attends", "How much a token takes in from each other one. What one token attends to adds up to 100 %. The map shows each patch as a multiple of what it would get if all got the same."],
  ["head", "A layer has several sets of such weights, its heads, and each looks for something else."],
  ["colours", "The photograph below the colours is grey, so that they are those of the scale. Photograph shows it as it is."],
  ["keys", "On the photograph: arrows move the patch, comma and full stop the layer, h the head, m is the mean of heads, d the direction, c CLS, p the photograph, Esc lets go of a patch."],
];

export function explainedWords() {
  const list = element("dl", {}, ...EXPLAINED.flatMap(([name, text]) => [element("dt", {}, name), element("dd", {}, text)]));
  return element("details", { class: "explained" }, element("summary", {}, "What the words mean, and keys"), list);
}
