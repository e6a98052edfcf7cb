// What the page says, in words.
import { MEAN } from "./layer.js";

const SMALL = 0.095; // shares below it have a decimal,
const NEARLY_ALL = 0.995; // and those above it

/** A share of attention in percent. */
export function percent(share) {
  return `${(share * 100).toFixed(share < SMALL || (share > NEARLY_ALL && share < 1) ? 1 : 0)} %`;
}

/** A multiple of uniform attention. */
export function times(value) {
  if (value >= 10) return `${value.toFixed(0)}×`;
  return value >= 0.1 || value === 0 ? `${value.toFixed(1)}×` : `${value.toPrecision(1)}×`;
}

/** A bound with two digits, rounded up. */
export function upperBound(value) {
  if (!(value > 0)) return "0";
  const digit = 10 ** (Math.floor(Math.log10(value)) - 1);
  return (Math.ceil(value / digit) * digit).toPrecision(2);
}

/** A similarity, from −1 to 1. */
export function signed(value) {
  return value.toFixed(2).replace("-", "−");
}

/** The value of a patch in a view: a similarity, or a multiple of uniform attention. */
export function valueText(view, value) {
  return view.direction === "similar" ? signed(value) : times(value);
}

/** The value of another token in words: a similarity, or a share of attention. */
export function shareText(view, share) {
  if (view.direction === "similar") return `similarity ${signed(share)}`;
  return `${view.direction === "to" ? "gets" : "gives it"} ${percent(share)}`;
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
  return [what(view, about, shown), ...notes(view, shown), colourSentence(view, about, payload), checked(view, about, payload)].join(" ");
}

/** What the map shows, as a title of one line. */
export function title(view, shown) {
  const chosen = chosenName(shown);
  if (view.direction === "similar") return `What is similar to ${chosen}`;
  return view.direction === "to" ? `What ${chosen} attends to` : `What attends to ${chosen}`;
}

/** What the map shows, in a sentence or two. */
export function what(view, about, shown) {
  if (view.direction === "similar") return similarSentence(view, about, shown);
  const sentence = `${title(view, shown)} in layer ${about.number} (${about.name}), ${headName(shown.head)}.`;
  const peak = highest(shown.patches, about.grid[1]);
  return peak ? `${sentence} Highest at ${placeName(peak.row, peak.column)}: ${times(peak.value)}.` : sentence;
}

/** The most and the least similar of the others, in words. */
export function extremes(values, columns, own) {
  let [most, least] = [-1, -1];
  values.forEach((value, place) => {
    if (place === own || Number.isNaN(value)) return;
    if (most < 0 || value > values[most]) most = place;
    if (least < 0 || value < values[least]) least = place;
  });
  if (most < 0) return "";
  const say = (place) => `${placeName(Math.floor(place / columns), place % columns)} (${signed(values[place])})`;
  return `most similar is ${say(most)}, least ${say(least)}.`;
}

function similarSentence(view, about, shown) {
  const own = shown.name === null ? shown.row * about.grid[1] + shown.column : -1;
  const found = extremes(shown.patches, about.grid[1], own);
  const sentence = `${title(view, shown)} ${view.place} the block of layer ${about.number} (${about.name})`;
  return found ? `${sentence}: ${found}` : `${sentence}.`;
}

/** What goes to, or comes from, the tokens that are no patches. */
export function othersSentence(view, shown) {
  const known = shown.others.filter((other) => !Number.isNaN(other.share));
  if (!known.length) return "";
  if (view.direction === "similar") {
    const others = known.filter((other) => other.name !== shown.name).slice(0, 6);
    return others.length ? `Similarity with ${others.map((other) => `${tokenName(other.name)} ${signed(other.share)}`).join(", ")}.` : "";
  }
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
  return [what(view, about, shown), ...notes(view, shown), checked(view, about, payload)].join(" ");
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
  if (view.direction === "similar") {
    return "Compared are the vectors that tokens carry from block to block, which have no heads, by their cosine: orange is 1 (one direction), grey 0, blue −1 (opposite).";
  }
  const within = about.windows === null ? "every patch" : "every patch of its window";
  const unit =
    view.direction === "to"
      ? `Grey is 1× uniform: of the attention that goes to patches, what ${within} would get if all got the same`
      : "The colour of a patch is how much of its attention it gives: grey is 1×, as much as it gives a patch on average";
  return `${unit}. Blue is less, down to 1/${payload.limit}×, orange is more, up to ${payload.limit}×.`;
}

function checked(view, about, payload) {
  if (view.direction === "similar") return `Stored similarities are off by at most ${upperBound(payload.tokenError)}.`;
  const exact = about.residual ? `to ${about.residual.toExponential(0)} of its largest value` : "exactly";
  return `Checked: rows · v reproduces this layer's output ${exact}. ${errorSentence(payload)}`;
}

function errorSentence({ error, live }) {
  if (live) return `The weights are computed by the model, and rounded by at most ${(error * 100).toPrecision(1)} % of their row's largest.`;
  return `Stored weights are off by at most ${percent(error)} of their row's largest.`;
}
