// Relevance methods in words, and the value of a patch in the map of one.
import { times } from "./words.js";

export const UNIFORM = "times uniform";

/** What a method's map is, as a title of one line. */
export function relevanceTitle({ name, target }) {
  return `Relevance map of ${name.replaceAll("_", " ")}${target ? `, for ${target}` : ""}`;
}

/** What a method's map shows, how far to trust it, and, unless the map beside it has said that, what its colours mean. */
export function relevanceCaption({ name, caption, tested, colours }, isSecond) {
  return `${name.replaceAll("_", " ")}: ${caption} ${tested}${isSecond ? "" : ` ${colours}`}`;
}

/** A value of a method's map, with its unit. */
export function relevanceValue({ unit }, value) {
  if (unit === UNIFORM) return times(value);
  return `${value > 0 ? "+" : value < 0 ? "−" : ""}${Number(Math.abs(value).toPrecision(2))} ${unit}`;
}
