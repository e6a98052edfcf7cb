// Break it: parts of the model are left out, and the page runs what remains.
import { brokenFrom, inWords, isShuffled, brokenText } from "./broken.js";
import { Choice, arrowKeys, element } from "./controls.js";
import { Network, valuesOf } from "./forward.js";
import { modelOf } from "./pair.js";
import { upperBound, percent } from "./words.js";

const BREAK_NOTE =
  "Leave parts out and see what becomes of the answer. The whole forward pass runs in this page at each change. The maps " +
  "show the model with all its parts.";
const EVERY = 10; // so many classes are all shown, in their own order
const LIKELIEST = 5; // of more classes, and as many of the broken model
const EXACT = 1e-4; // of the largest output, or of 1: a page that is further from PyTorch's answer shows none
const SHUFFLED_SIDE = 168; // pixels of the shuffled photograph

export class BreakIt {
  constructor(explorer) {
    this.explorer = explorer;
    this.images = new Map(); // what each image gives with all parts
    this.node = element("section", { class: "break-it" });
  }

  /** The section of a model. */
  build(own, label) {
    Object.assign(this, { network: own === this.own ? this.network : null, own, label, about: own.network, image: null });
    const title = element("h2", {}, `Break it${label ? `: ${label}` : ""}`);
    if (!this.about) return this.node.replaceChildren(title, element("p", { class: "soft" }, `Not available: ${own.whyNoNetwork}`));
    const { depth, heads, tokens, positions } = this.about;
    this.parts = [];
    const blocks = [...Array(depth).keys()].map((block) =>
      element(
        "div",
        { class: "parts" },
        this.part(`Block ${block}`, `Leave out block ${block}`, ({ blocks }) => ({ blocks: toggled(blocks, block) }), ({ blocks }) => blocks.includes(block)),
        ...[...Array(heads).keys()].map((head) => this.headButton(block, head)),
      ),
    );
    const toolbar = element("div", { role: "toolbar", "aria-label": "Blocks and their heads" }, ...blocks);
    arrowKeys(toolbar, heads + 1);
    this.positions = new Choice("Positions", [["learned", "As learned"], ["zero", "Zero"], ["shuffled", "Shuffled"]], (value) => this.change({ positions: value }));
    this.patches = new Choice("Patches", [["in place", "In place"], ["shuffled", "Shuffled"]], (value) => this.change({ patches: value }));
    this.again = element("button", { type: "button" }, "Another order");
    this.again.addEventListener("click", () => this.change(({ seed }) => ({ seed: seed + 1 })));
    this.repair = element("button", { type: "button" }, "Repair all");
    this.repair.addEventListener("click", () => this.put(""));
    this.picture = element("canvas", { role: "img", "aria-label": "The photograph with its patches shuffled" });
    this.said = element("p", { role: "status", class: "said" });
    this.table = element("table");
    this.facts = element("p", { class: "soft" });
    const cls = tokens[0] === "cls_token" ? [this.part("Cut CLS off", "Cut CLS off: it attends only to itself, in every block", ({ cutsCls }) => ({ cutsCls: !cutsCls }), ({ cutsCls }) => cutsCls, "cut")] : [];
    this.controls = element(
      "div",
      { class: "controls" },
      element("p", { class: "soft" }, label ? `${BREAK_NOTE} The switches act on both models.` : BREAK_NOTE),
      labelled("Blocks and their heads", toolbar),
      ...(positions ? [labelled("Positions", this.positions.node)] : []),
      labelled("Patches", this.patches.node, this.picture),
      element("div", { class: "choice" }, ...cls, this.again, this.repair),
    );
    return this.node.replaceChildren(title, this.controls, this.said, this.table, this.facts);
  }

  headButton(block, head) {
    const own = `${block}-${head}`;
    return this.part(`head ${head}`, `Leave out head ${head} of block ${block}`, ({ heads }) => ({ heads: toggled(heads, own) }), ({ heads }) => heads.includes(own), "part", block);
  }

  /** A button that leaves a part out, or puts it back. */
  part(text, name, changes, isOut, kind = "part", block = null) {
    const button = element("button", { type: "button", class: kind, "aria-label": name, title: name }, text);
    button.addEventListener("click", () => this.change(changes));
    this.parts.push({ button, isOut, block });
    return button;
  }

  /** Change what is missing in the view, which may be ahead of what is drawn. */
  change(changes) {
    const missing = brokenFrom(this.explorer.view.broken, this.about);
    this.put(brokenText({ ...missing, ...(typeof changes === "function" ? changes(missing) : changes) }));
  }

  put(text) {
    this.explorer.view = { ...this.explorer.view, broken: text };
    this.explorer.render();
  }

  draw({ payload, image, view, pictures, label }) {
    const own = modelOf(payload, image);
    if (own !== this.own || label !== this.label) this.build(own, label);
    if (!this.about || (this.image === image && this.text === view.broken)) return;
    Object.assign(this, { image, text: view.broken, broken: brokenFrom(view.broken, this.about) });
    for (const { button, isOut, block } of this.parts) {
      button.setAttribute("aria-pressed", String(isOut(this.broken)));
      button.disabled = this.broken.blocks.includes(block); // a head of a block that is left out
    }
    this.positions.show(this.broken.positions);
    this.patches.show(this.broken.patches);
    this.again.disabled = !isShuffled(this.broken);
    this.repair.disabled = !inWords(this.broken);
    this.picture.hidden = this.broken.patches !== "shuffled";
    if (!this.picture.hidden) this.drawShuffled(pictures);
    this.done = this.run(image).catch((error) => this.fail(error.message));
  }

  /** The photograph as the model gets it. */
  drawShuffled(pictures) {
    const [rows, columns] = this.about.grid;
    const scale = SHUFFLED_SIDE / Math.max(pictures.width, pictures.height);
    const [width, height] = [Math.round((pictures.width * scale) / columns), Math.round((pictures.height * scale) / rows)]; // of a patch
    Object.assign(this.picture, { width: width * columns, height: height * rows });
    const context = this.picture.getContext("2d");
    const { photo } = pictures.at(width * columns, height * rows);
    this.broken.order.forEach((from, place) => {
      const [left, top] = [(from % columns) * width, Math.floor(from / columns) * height];
      context.drawImage(photo, left, top, width, height, (place % columns) * width, Math.floor(place / columns) * height, width, height);
    });
  }

  /** Run what remains of the model, once its weights are unpacked and checked. */
  async run(image) {
    this.network ??= this.explorer.source.content(this.about).then((bytes) => new Network(this.about, bytes));
    const network = await this.network;
    if (!this.images.has(image)) this.images.set(image, await this.whole(network, image));
    if (image !== this.image) return; // another image was chosen meanwhile
    const { pixels, outputs, difference } = this.images.get(image);
    const start = performance.now();
    this.outputs = inWords(this.broken) ? network.logits(pixels, this.broken) : outputs;
    this.milliseconds = performance.now() - start;
    this.fill(valuesOf(outputs, this.about), valuesOf(this.outputs, this.about), difference);
  }

  /** What an image gives with all parts, held against PyTorch's answer for the same weights. */
  async whole(network, image) {
    const pixels = await this.explorer.source.content(image.input);
    const outputs = network.logits(pixels);
    const expected = image.input.outputs;
    const size = Math.max(1, ...expected.map(Math.abs));
    const difference = Math.max(...expected.map((value, place) => Math.abs(value - outputs[place]))) / size;
    if (!(difference <= EXACT)) throw new Error(`this browser's forward pass differs from PyTorch's by ${difference.toPrecision(1)} of the largest output.`);
    return { pixels, outputs, difference };
  }

  fail(message) {
    this.controls.hidden = true;
    this.table.replaceChildren();
    this.said.textContent = `Not available: ${message}`;
  }

  fill(whole, now, difference) {
    const missing = inWords(this.broken);
    const { classes, task, drift } = this.about;
    const say = (values) => (task === "numbers" ? classes.map((name, place) => `${name} ${values[place].toPrecision(3)}`).join(", ") : firstAnswer(classes, values));
    this.said.textContent = missing ? `Without ${missing}: ${say(now)}. With all parts: ${say(whole)}.` : `With all parts: ${say(whole)}.`;
    const rows = shownClasses(whole, now).map((place) => classRow(classes[place], whole[place], now[place], task));
    const names = task === "numbers" ? ["number", "all parts", "now"] : ["class", "all parts", "now", "pale: all parts"];
    const head = element("tr", {}, ...names.map((name) => (name ? element("th", { scope: "col" }, name) : element("td"))));
    this.table.replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
    this.facts.textContent =
      `Weights are in half precision: on this page's images, this changes the model's outputs by at most ${upperBound(drift)}. ` +
      `Checked: with the same weights, PyTorch's outputs are those of this page to ${upperBound(difference)} of the largest.`;
  }
}

/** The classes whose values are listed. */
function shownClasses(whole, now) {
  const every = [...whole.keys()];
  if (every.length <= EVERY) return every;
  const likeliest = (values) => every.toSorted((one, other) => values[other] - values[one]).slice(0, LIKELIEST);
  return [...new Set([...likeliest(whole), ...likeliest(now)])];
}

function firstAnswer(classes, values) {
  const best = values.indexOf(Math.max(...values));
  return `${classes[best]} ${percent(values[best])}`;
}

function classRow(name, whole, now, task) {
  const text = (value) => (task === "numbers" ? value.toPrecision(4) : percent(value));
  const cells = [element("th", { scope: "row" }, name), element("td", { class: "value" }, text(whole)), element("td", { class: "value" }, text(now))];
  if (task === "numbers") return element("tr", {}, ...cells);
  const bars = [["bar whole", whole], ["bar", now]].map(([kind, value]) => {
    const bar = element("span", { class: kind });
    bar.style.width = `${value * 100}%`;
    return bar;
  });
  return element("tr", {}, ...cells, element("td", { class: "bars", "aria-hidden": "true" }, ...bars));
}

/** A list with one more item, or without it. */
function toggled(list, item) {
  return list.includes(item) ? list.filter((one) => one !== item) : [...list, item];
}

function labelled(name, ...children) {
  return element("div", { class: "labelled" }, element("p", { class: "soft" }, name), ...children);
}
