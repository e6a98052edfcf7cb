// The answer after every block, as a table: the likeliest, and the bar of its value.
import { element } from "./controls.js";
import { percent } from "./words.js";

const NOTE =
  "What the model's norm and head make of the tokens after each block. They were trained for the last block only: what they " +
  "say of earlier ones is a projection.";

/** The section; rows are marked by `mark(place)`. */
export class AnswersTable {
  constructor(image) {
    this.rows = [];
    this.node = element("section", { class: "answers" }, element("h2", {}, "The answer after every block"));
    if (!image.answers) {
      this.node.append(element("p", { class: "soft" }, `Not available: ${image.whyNoAnswers}`));
      return;
    }
    const { names, places, values, unit } = image.answers;
    const body = element("tbody");
    places.forEach((place, number) => {
      const best = values[number].indexOf(Math.max(...values[number]));
      const value = values[number][best];
      const found = unit === "probability" ? names[best] : names.map((name, one) => `${name} ${values[number][one].toPrecision(3)}`).join("; ");
      const bar = element("span", { class: "bar" });
      bar.style.width = `${Math.max(0, value * 100)}%`;
      const row = element(
        "tr",
        {},
        element("th", { scope: "row" }, place),
        element("td", { class: "name" }, found),
        element("td", { class: "value" }, unit === "probability" ? percent(value) : ""),
        element("td", { class: "bars", "aria-hidden": "true" }, ...(unit === "probability" ? [bar] : [])),
      );
      this.rows.push(row);
      body.append(row);
    });
    const heads = ["place", ...(unit === "probability" ? ["likeliest class", unit] : ["numbers", ""])].map((name) => element("th", { scope: "col" }, name));
    this.node.append(
      element("p", { class: "soft" }, NOTE),
      element("table", {}, element("thead", {}, element("tr", {}, ...heads)), body),
    );
  }

  /** Mark the place behind a layer. */
  mark(place) {
    this.rows.forEach((row, number) => row.classList.toggle("now", number === place));
  }
}
