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
    const largest = unit === "probability" ? 1 : Math.max(...values.flat().map(Math.abs), 1e-12);
    places.forEach((place, number) => {
      const best = values[number].indexOf(Math.max(...values[number]));
      const value = values[number][best];
      const bar = element("span", { class: "bar" });
      bar.style.width = `${Math.max(0, (value / largest) * 100)}%`;
      const row = element(
        "tr",
        {},
        element("th", { scope: "row" }, place),
        element("td", { class: "name" }, names[best]),
        element("td", { class: "value" }, unit === "probability" ? percent(value) : value.toPrecision(3)),
        element("td", { class: "bars", "aria-hidden": "true" }, bar),
      );
      this.rows.push(row);
      body.append(row);
    });
    const heads = ["place", unit === "probability" ? "likeliest class" : "number", unit].map((name) => element("th", { scope: "col" }, name));
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
