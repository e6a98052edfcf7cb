// What the page says, in words.
import { MEAN } from "./layer.js";

const SMALL = 0.095; // shares below it have a decimal

/** A share of attention in percent. */
export function percent(share) {
  return `${(share * 100).toFixed(share < SMALL ? 1 : 0)} %`;
}

/** A multiple of uniform attention. */
export function times(value) {
  if (value >= 10) return `${value.toFixed(0)}×`;
  return value >= 0.1 || value === 0 ? `${value.toFixed(1)}×` : `${value.toPrecision(1)}×`;
}

/** A token's name: CLS, register 0, query 0. */
export function tokenName(name) {
  return name === "cls" ? "CLS" : name;
}

/** The place of a patch. */
export function placeName(row, column) {
  return `row ${row}, column ${column}`;
}

/** The chosen token in a sentence. */
export function chosenName(shown) {
  return shown.name === null ? `the patch in ${placeName(shown.row, shown.column)}` : tokenName(shown.name);
}

/** The head in a sentence. */
export function headName(head) {
  return head === MEAN ? "heads averaged" : `head ${head}`;
}

/** The row and column of the largest value, and the value; null if there is none. */
export function highest(values, columns) {
  let best = -1;
  values.forEach((value, patch) => {
    if (!Number.isNaN(value) && (best < 0 || value > values[best])) best = patch;
  });
  return best < 0 ? null : { row: Math.floor(best / columns), column: best % columns, value: values[best] };
}

/** The caption of a view: what is shown, what the colours mean, and how it was checked. */
export function caption(view, about, shown, payload) {
  return [what(view, about, shown), ...notes(view, shown), colourSentence(view, about, payload), checked(about, payload)].join(" ");
}

/** What the map shows, as a title of one line. */
export function title(view, shown) {
  const chosen = chosenName(shown);
  return view.direction === "to" ? `What ${chosen} attends to` : `What attends to ${chosen}`;
}

/** What the map shows, in a sentence or two. */
export function what(view, about, shown) {
  const sentence = `${title(view, shown)} in layer ${about.number} (${about.name}), ${headName(shown.head)}.`;
  const peak = highest(shown.patches, about.grid[1]);
  return peak ? `${sentence} Highest at ${placeName(peak.row, peak.column)}: ${times(peak.value)}.` : sentence;
}

/** What goes to, or comes from, the tokens that are no patches. */
export function othersSentence(view, shown) {
  const known = shown.others.filter((other) => !Number.isNaN(other.share));
  if (!known.length) return "";
  if (view.direction === "to") {
    const parts = known.slice(0, 6).map((other) => `${tokenName(other.name)} ${percent(other.share)}`);
    const rest = Number.isNaN(shown.onPatches) ? "" : `, patches ${percent(shown.onPatches)}`;
    return `Shares of its attention: ${parts.join(", ")}${rest}.`;
  }
  const parts = known.slice(0, 6).map((other) => `${tokenName(other.name)} gives it ${percent(other.share)}`);
  return `${parts.join(", ")} of its attention.`;
}

/** The caption of a view beside another, which has said what the colours mean. */
export function captionBeside(view, about, shown, payload) {
  return [what(view, about, shown), ...notes(view, shown), checked(about, payload)].join(" ");
}

/** The small maps of heads, and of their mean. */
export function headItems(count) {
  const heads = [...Array(count).keys()].map((head) => ({ value: head, text: String(head), name: `Head ${head}` }));
  return [{ value: MEAN, text: "mean", name: "Mean of heads" }, ...heads];
}

/** The small maps of layers. */
export function layerItems(layers) {
  return layers.map((layer, place) => ({ value: place, text: String(layer.number), name: `Layer ${layer.number}` }));
}

/** A layer among those of its model. */
export function layerText(about, layers) {
  return `Layer ${about.number} (${layers[0].number} to ${layers.at(-1).number}), ${about.name}, ${about.heads} heads`;
}

function notes(view, shown) {
  return [othersSentence(view, shown), shown.note].filter(Boolean);
}

function colourSentence(view, about, payload) {
  const within = about.windows === null ? "every patch" : "every patch of its window";
  const unit =
    view.direction === "to"
      ? `Grey is 1× uniform: what ${within} would get if all got the same`
      : "The colour of a patch is how much of its attention it gives: grey is 1×, as much as it gives a patch on average";
  return `${unit}. Blue is less, down to 1/${payload.limit}×, orange is more, up to ${payload.limit}×.`;
}

function checked(about, payload) {
  const exact = about.residual ? `to ${about.residual.toExponential(0)} of its largest value` : "exactly";
  return `Checked: rows · v reproduces this layer's output ${exact}. ${errorSentence(payload)}`;
}

function errorSentence({ error, live }) {
  if (live) return `The weights are computed by the model, and rounded by at most ${(error * 100).toPrecision(1)} % of their row's largest.`;
  return `Stored weights are off by at most ${percent(error)} of their row's largest.`;
}
