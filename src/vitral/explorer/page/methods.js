// The maps of relevance methods, side by side, with the test of each. Choosing one puts it on the photograph.
import { element } from "./controls.js";
import { Glance } from "./glance.js";
import { UNIFORM } from "./relevance.js";

export class Methods {
  constructor(explorer) {
    this.glance = new Glance("Relevance method", (name) => {
      explorer.change({ show: explorer.view.show === name ? "map" : name });
      explorer.stage.node.scrollIntoView({ block: "nearest" }); // on a phone it is far above
    });
    this.title = element("h2");
    this.note = element("p", { class: "soft" });
    this.test = element("p", { class: "test" });
    this.list = element("ul");
    this.refused = element("ul");
    this.details = element("details", {}, element("summary", {}, "How each was tested"), this.list);
    this.node = element("section", { class: "methods" }, this.title, this.note, this.glance.node, this.test, this.refused, this.details);
  }

  draw({ image, view, label, pictures, painters }) {
    this.node.hidden = !image.methods?.length && !Object.keys(image.refusedMethods ?? {}).length;
    if (this.node.hidden) return;
    this.glance.prepare(image.methods.map(itemOf), pictures.width / pictures.height);
    const shown = image.methods.some((method) => method.name === view.show) ? view.show : null;
    const key = `${view.image} ${label} ${shown}`;
    if (this.drawn === key) return; // these maps are the same whatever patch is chosen
    this.drawn = key;
    this.title.textContent = `Relevance methods${label ? `: ${label}` : ""}`;
    this.note.textContent = "Which patches the answer depends on, as each method estimates it. Choose one to see it large, in place of attention.";
    this.glance.draw(shown, (name) => mapOfMethod(image.methods.find((one) => one.name === name)), (name) => painters.of(unitOf(image, name)), pictures);
    const method = image.methods.find((one) => one.name === shown);
    this.test.textContent = method ? `${method.name.replaceAll("_", " ")}: ${method.tested}` : "";
    this.list.replaceChildren(...image.methods.map(({ name, tested }) => sentence(name, tested)));
    this.refused.replaceChildren(...byReason(image.refusedMethods).map(([why, names]) => sentence(names.join(", "), `not available. ${why}`)));
    this.details.hidden = !image.methods.length;
  }
}

function itemOf({ name, verdict }) {
  const words = name.replaceAll("_", " ");
  return { value: name, text: words, under: verdict, name: `${words}: ${verdict}` };
}

function unitOf(image, name) {
  return image.methods.find((method) => method.name === name)?.unit ?? UNIFORM;
}

export function mapOfMethod({ values, grid }) {
  return { values: Float32Array.from(values), rows: grid[0], columns: grid[1] };
}

/** The reasons, each with the methods that give it. */
function byReason(refused) {
  const reasons = new Map();
  for (const [name, why] of Object.entries(refused)) reasons.set(why, [...(reasons.get(why) ?? []), name]);
  return [...reasons];
}

function sentence(name, text) {
  return element("li", {}, element("strong", {}, name.replaceAll("_", " ")), `: ${text}`);
}
