// The answer after every block, as a table: the likeliest, and the bar of its value.
import { element } from "./controls.js";
import { percent } from "./words.js";

const NOTE =
  "What the model's norm and head make of the tokens after each block. They were trained for the last block only: what they " +
  "say of earlier ones is a projection.";

const FIRST_ROW = " Before block 0, CLS has seen no patch: that row is the same for every image.";

export class AnswersTable {
  constructor() {
    this.node = element("section", { class: "answers" });
  }

  draw({ image, view, label }) {
    if (this.image !== image || this.label !== label) this.fill(image, label);
    const place = this.rows.length === image.layers.length + 1 ? view.layer + 1 : -1; // the first row is before block 0
    this.rows.forEach((row, number) => row.classList.toggle("now", number === place));
  }

  fill(image, label) {
    Object.assign(this, { image, label });
    this.rows = [];
    const title = element("h2", {}, `The answer after every block${label ? `: ${label}` : ""}`);
    if (!image.answers) {
      this.node.replaceChildren(title, element("p", { class: "soft" }, `Not available: ${image.whyNoAnswers}`));
      return;
    }
    const { names, places, values, unit } = image.answers;
    const cells = unit === "probability" ? likeliest : everyNumber;
    this.rows = places.map((place, number) => element("tr", {}, element("th", { scope: "row" }, place), ...cells(names, values[number])));
    const heads = unit === "probability" ? ["place", "likeliest class", "probability"] : ["place", "numbers"];
    const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
    const table = element("table", {}, element("thead", {}, head), element("tbody", {}, ...this.rows));
    const isOfCls = image.reader === "CLS" && image.layers[0].prefix.includes("cls");
    this.node.replaceChildren(title, element("p", { class: "soft" }, NOTE + (isOfCls ? FIRST_ROW : "")), table);
  }
}

/** The likeliest class, its probability, and a bar. */
function likeliest(names, values) {
  const best = values.indexOf(Math.max(...values));
  const bar = element("span", { class: "bar" });
  bar.style.width = `${values[best] * 100}%`;
  return [
    element("td", { class: "name" }, names[best]),
    element("td", { class: "value" }, percent(values[best])),
    element("td", { class: "bars", "aria-hidden": "true" }, bar),
  ];
}

function everyNumber(names, values) {
  return [element("td", {}, names.map((name, place) => `${name} ${values[place].toPrecision(3)}`).join("; "))];
}
