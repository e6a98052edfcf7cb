// The explorer in any host. A source gives the payload, and each layer when it is looked at:
//
//     source.payload                      the header (docs/how-to/explore.md)
//     await source.layer(image, place)    a `Layer`
//     await source.content(about)         the bytes of what the header describes: tokens, positions, weights, images
import { AboutImage } from "./about_image.js";
import { AnswersTable } from "./answers.js";
import { BreakIt } from "./break_it.js";
import { Palette, SignedPalette } from "./colours.js";
import { Choice, Slider, element } from "./controls.js";
import { Glance } from "./glance.js";
import { MEAN } from "./layer.js";
import { Painter } from "./painter.js";
import { loadPictures } from "./pictures.js";
import { PositionTable } from "./positions.js";
import { savePng } from "./save.js";
import { show } from "./shown.js";
import { loadTokens } from "./similarity.js";
import { Stage } from "./stage.js";
import { fromAddress, hasTokens, patchAt, toAddress, tokenAt } from "./view.js";
import { caption, chosenName, headName, othersSentence, placeName, shareText, title, tokenName, valueText, what } from "./words.js";

const VERSION = 1; // of the payload
const WAIT = 250; // milliseconds before a view is put into the address

// The sections below layers and heads. Each is made with the explorer, has a `node`, and draws itself for what the
// explorer shows: its `payload`, `image`, `view`, `about` (the layer's header), `layer`, `shown`, `pictures`, `painter`.
const PANELS = [AnswersTable, BreakIt, PositionTable, AboutImage];

/** Fill an element with the explorer. Throws for a payload of another version. */
export async function explore(host, source) {
  if (source.payload.version !== VERSION) {
    throw new Error(`This page reads payloads of version ${VERSION}, not ${source.payload.version}.`);
  }
  const explorer = new Explorer(host, source);
  await explorer.start(host);
  return explorer;
}

class Explorer {
  constructor(host, source) {
    this.payload = source.payload;
    this.source = source;
    this.palette = new Palette(this.payload);
    this.attentionPainter = new Painter(this.palette);
    this.signedPainter = new Painter(new SignedPalette(this.payload));
    this.view = fromAddress(window.location.hash, this.payload);
    this.unpacked = new Map(); // layers, by image and place
    this.pointed = null; // the token under the mouse, shown as long as none is held
    this.isHeld = this.view.token.name === undefined && window.location.hash.includes("token=");
    this.build(host);
  }

  get image() {
    return this.payload.images[this.view.image];
  }

  /** What draws the maps of the view, on its scale. */
  get painter() {
    return this.view.direction === "similar" ? this.signedPainter : this.attentionPainter;
  }

  get about() {
    return this.image.layers[this.view.layer];
  }

  build(host) {
    const change = (changes) => this.change(changes);
    this.images = new Choice("Image", this.payload.images.map((image, place) => [place, image.name]), (image) => change({ image }));
    this.direction = new Choice("Direction", [["to", "What it attends to"], ["from", "What attends to it"], ...(hasTokens(this.payload) ? [["similar", "What is similar to it"]] : [])], (direction) => change({ direction }));
    this.place = new Choice("Tokens", [["before", "Before the block"], ["after", "After the block"]], (place) => change({ place }));
    this.show = new Choice("Picture", [["map", "Map"], ["photo", "Photograph"]], (picture) => change({ show: picture }));
    this.layers = new Slider("Layer", (layer) => change({ layer }));
    this.heads = new Glance("Head", (head) => change({ head }));
    this.everyLayer = new Glance("All layers", (layer) => this.layers.set(layer));
    this.tokens = element("div", { class: "tokens" });
    this.title = element("p", { class: "title" });
    this.caption = element("p", { class: "caption", id: "explorer-caption" });
    this.readout = element("p", { class: "readout" });
    this.live = element("p", { class: "unseen", "aria-live": "polite" });
    this.stage = new Stage(this.stageActions(), "explorer-caption");
    this.scale = element("div", { class: "scale" });
    this.panels = PANELS.map((Panel) => new Panel(this));
    const save = element("button", { type: "button" }, "Save as PNG");
    save.addEventListener("click", () => this.save());
    const left = element("div", { class: "left" }, this.direction.node, this.place.node, this.tokens, this.title, this.stage.node, this.readout, this.scale, this.caption);
    left.append(element("div", { class: "actions" }, this.show.node, save));
    const right = element("div", { class: "right" });
    right.append(
      element("section", { class: "layers" }, element("h2", {}, "Layers"), this.layers.text, this.layers.node, this.everyLayer.node),
      element("section", { class: "heads" }, element("h2", {}, "Heads of this layer"), this.heads.node),
      ...this.panels.map((panel) => panel.node),
    );
    host.setAttribute("aria-busy", "true");
    host.replaceChildren(...(this.payload.images.length > 1 ? [this.images.node] : []), element("div", { class: "columns" }, left, right), this.live);
  }

  drawScale() {
    const { palette } = this.painter;
    if (this.scaleOf === palette) return;
    this.scaleOf = palette;
    const canvas = element("canvas", { width: 514, height: 12, "aria-hidden": "true" });
    palette.paintScale(canvas);
    const labels = palette.ticks().map(({ place, label }) => {
      const node = element("span", [0, 0.5, 1].includes(place) ? {} : { class: "between" }, label);
      node.style.left = `${place * 100}%`;
      return node;
    });
    this.scale.replaceChildren(canvas, element("div", { class: "scale-labels" }, ...labels));
  }

  stageActions() {
    return {
      point: (row, column) => this.point(row, column),
      leave: () => this.leave(),
      choose: (row, column) => this.choose(row, column),
      move: (rows, columns) => this.move(rows, columns),
      key: (name) => this.key(name),
    };
  }

  async start(host) {
    window.addEventListener("hashchange", () => {
      if (window.location.hash === this.address) return;
      this.view = fromAddress(window.location.hash, this.payload);
      this.isHeld = this.view.token.name === undefined;
      this.render();
    });
    new ResizeObserver(() => this.render()).observe(this.stage.node);
    await this.render();
    host.setAttribute("aria-busy", "false");
  }

  /** Change the view; what does not fit the new layer is adapted. */
  async change(changes) {
    this.view = { ...this.view, ...changes };
    const layers = this.image.layers;
    this.view.layer = Math.min(this.view.layer, layers.length - 1);
    if (this.view.head !== MEAN && this.view.head >= this.about.heads) this.view.head = MEAN;
    this.pointed = null;
    await this.render();
    this.live.textContent = [what(this.view, this.about, this.shown), othersSentence(this.view, this.shown), this.shown.note].join(" ");
  }

  point(row, column) {
    const token = tokenAt(row, column, this.about.grid);
    if (this.isHeld) this.tell(row, column);
    else if (!this.pointed || this.pointed.y !== token.y || this.pointed.x !== token.x) {
      this.pointed = token;
      this.render();
    }
  }

  leave() {
    this.readout.textContent = this.hint();
    if (!this.pointed) return;
    this.pointed = null;
    this.render();
  }

  /** Hold a patch; the one that is held already is released. */
  choose(row, column) {
    const held = patchAt(this.view.token, this.about.grid);
    this.isHeld = !(this.isHeld && held && held.row === row && held.column === column);
    this.change({ token: tokenAt(row, column, this.about.grid) });
  }

  /** Move to the next patch in a direction whose rows the page has. */
  move(rows, columns) {
    const [height, width] = this.about.grid;
    const from = this.shown.name === null ? this.shown : { row: (height - 1) >> 1, column: (width - 1) >> 1 };
    let { row, column } = from;
    let token = tokenAt(row, column, this.about.grid);
    while (row + rows >= 0 && row + rows < height && column + columns >= 0 && column + columns < width) {
      row += rows;
      column += columns;
      token = tokenAt(row, column, this.about.grid);
      const next = show(this.layer, this.view, token);
      if (next.row !== from.row || next.column !== from.column || this.shown.name !== null) break;
    }
    this.isHeld = true;
    this.change({ token });
  }

  /** What a key does on the photograph; whether it does something. */
  key(name) {
    const heads = this.about.heads;
    const actions = {
      ",": () => this.layers.set(this.view.layer - 1),
      ".": () => this.layers.set(this.view.layer + 1),
      h: () => this.change({ head: this.view.head === MEAN ? 0 : this.view.head + 1 < heads ? this.view.head + 1 : MEAN }),
      m: () => this.change({ head: MEAN }),
      d: () => this.change({ direction: this.direction.after(this.view.direction) }),
      p: () => this.change({ show: this.view.show === "map" ? "photo" : "map" }),
      c: () => this.layer.keyNames.length && this.chooseName(this.layer.keyNames[0]),
      Escape: () => this.release(),
    };
    if (!actions[name]) return false;
    actions[name]();
    return true;
  }

  release() {
    this.isHeld = false;
    this.render();
  }

  chooseName(name) {
    this.isHeld = false;
    this.change({ token: { name } });
  }

  /** The value of the patch under the mouse, while another is held. */
  tell(row, column) {
    const value = this.shown.patches[row * this.about.grid[1] + column];
    const gets = { to: "gets", from: "gives it", similar: "has similarity" }[this.view.direction];
    this.readout.textContent = Number.isNaN(value) ? `${placeName(row, column)}: no value` : `${placeName(row, column)} ${gets} ${valueText(this.view, value)}`;
  }

  hint() {
    return this.isHeld
      ? `Held: ${chosenName(this.shown)}. Point at other patches for their values; click it again or press Esc to release it.`
      : "Point at a patch, click or tap to hold it, or move with the arrow keys.";
  }

  async render() {
    const wanted = (this.wanted = {});
    const { image, layer: place } = this.view;
    const [layer, pictures] = await Promise.all([this.layerAt(image, place), this.picturesOf(image)]);
    if (wanted !== this.wanted) return; // another view was chosen meanwhile
    this.layer = layer;
    this.pictures = pictures;
    this.shown = show(layer, this.view, this.pointed ?? this.view.token);
    this.draw();
    this.keepAddress();
  }

  /** Put the view into the address, once it stays: browsers refuse to change it hundreds of times. */
  keepAddress() {
    const address = toAddress(this.view, this.payload);
    if (address === this.address) return;
    clearTimeout(this.writing);
    const write = () => {
      this.address = address;
      window.history.replaceState(null, "", address);
    };
    if (this.address === undefined) write();
    else this.writing = setTimeout(write, WAIT);
  }

  async picturesOf(image) {
    this.loaded ??= new Map();
    if (!this.loaded.has(image)) this.loaded.set(image, loadPictures(this.payload.images[image].pictures, this.palette.shade));
    return this.loaded.get(image);
  }

  draw() {
    const { view, about, shown, layer, pictures } = this;
    const [rows, columns] = about.grid;
    this.map = view.show === "map" ? { values: shown.patches, rows, columns } : null;
    this.selected = shown.name === null ? shown : null;
    const label = `${this.image.name}. ${what(view, about, shown)}`;
    const name = `Patches of ${this.image.name}, ${rows} rows and ${columns} columns. Arrow keys choose a patch; comma and full stop change the layer, h the head, d the direction.`;
    this.stage.draw({ painter: this.painter, pictures, grid: about.grid, map: this.map, selected: this.selected, label, name });
    this.title.textContent = title(view, shown);
    this.caption.textContent = this.captionText = caption(view, about, shown, this.payload);
    this.readout.textContent = this.hint();
    this.images.show(view.image);
    this.direction.show(view.direction);
    this.place.show(view.place);
    this.place.node.hidden = view.direction !== "similar";
    this.drawScale();
    this.show.show(view.show);
    this.layers.show(view.layer, this.image.layers.length - 1, layerText(about, this.image.layers));
    const shape = pictures.width / pictures.height;
    this.heads.node.parentNode.hidden = view.direction === "similar"; // whole tokens are compared
    this.heads.prepare(headItems(about.heads), shape);
    this.heads.draw(shown.head, (head) => this.headMap(layer, head), this.painter, pictures);
    this.everyLayer.prepare(layerItems(this.image.layers), shape);
    this.everyLayer.draw(view.layer, (place) => this.layerMap(place), this.painter, pictures, true);
    this.drawTokens();
    const drawn = `${view.image} ${view.direction === "similar"}`;
    if (this.drawn !== drawn) {
      this.drawn = drawn;
      this.unpackOthers();
    }
    this.panels.forEach((panel) => panel.draw(this));
  }

  /** A small map of one head, for the token that is shown; null if its rows are not stored. */
  headMap(layer, head) {
    const shown = show(layer, { ...this.view, head }, this.pointed ?? this.view.token);
    return shown.head === head ? { values: shown.patches, rows: layer.rows, columns: layer.columns } : null;
  }

  /** A small map of one layer, for the token that is shown; null as long as the layer is not unpacked. */
  layerMap(place) {
    const layer = this.unpacked.get(`${this.view.image} ${place}`);
    if (!layer) return null;
    const head = this.view.head !== MEAN && this.view.head < layer.about.heads ? this.view.head : MEAN;
    const shown = show(layer, { ...this.view, head }, this.pointed ?? this.view.token);
    return { values: shown.patches, rows: layer.rows, columns: layer.columns };
  }

  /** A layer, unpacked. */
  async layerAt(image, place) {
    const layer = await this.source.layer(image, place);
    if (this.view.direction === "similar") await loadTokens(layer, this.payload.images[image], this.source);
    this.unpacked.set(`${image} ${place}`, layer);
    return layer;
  }

  /** Unpack the other layers of the image, one after another, so that the page stays responsive, and draw each. */
  async unpackOthers() {
    const { image } = this.view;
    for (let place = this.image.layers.length - 1; place >= 0 && image === this.view.image; place -= 1) {
      const known = this.unpacked.get(`${image} ${place}`);
      if (known && (known.tokens || this.view.direction !== "similar")) continue;
      await this.layerAt(image, place);
      await new Promise((resolve) => setTimeout(resolve));
      if (image === this.view.image) this.everyLayer.draw(this.view.layer, (one) => this.layerMap(one), this.painter, this.pictures, true);
    }
  }

  /** CLS and registers, with their shares in this view. */
  drawTokens() {
    const { layer, shown, view } = this;
    const shares = new Map(shown.others.map((other) => [other.name, other.share]));
    const names = [...new Set([...layer.keyNames, ...layer.queryNames])];
    if (this.tokenNames !== names.join()) {
      this.tokenNames = names.join();
      this.tokenButtons = names.map((name) => {
        const share = element("span", { class: "share" });
        const button = element("button", { type: "button" }, tokenName(name), " ", share);
        button.addEventListener("click", () => this.chooseName(name));
        return { name, button, share };
      });
      this.tokens.replaceChildren(...this.tokenButtons.map((one) => one.button));
    }
    for (const { name, button, share } of this.tokenButtons) {
      const value = shares.get(name);
      share.textContent = value === undefined || Number.isNaN(value) ? "" : shareText(view, value);
      button.setAttribute("aria-pressed", String(shown.name === name));
    }
  }

  save() {
    const { view, about, image } = this;
    const fileName = `${image.name.replace(/\.[^.]*$/, "")}.layer-${about.number}.${headName(view.head).replaceAll(" ", "-")}.png`;
    return savePng({
      painter: this.painter,
      pictures: this.pictures,
      grid: about.grid,
      map: this.map,
      selected: this.selected,
      caption: this.captionText,
      title: `${image.name}: ${image.answer}`,
      fileName,
    });
  }
}

function headItems(count) {
  const heads = [...Array(count).keys()].map((head) => ({ value: head, text: String(head), name: `Head ${head}` }));
  return [{ value: MEAN, text: "mean", name: "Mean of heads" }, ...heads];
}

function layerItems(layers) {
  return layers.map((layer, place) => ({ value: place, text: String(layer.number), name: `Layer ${layer.number}` }));
}

function layerText(about, layers) {
  return `Layer ${about.number} (${layers[0].number} to ${layers.at(-1).number}), ${about.name}, ${about.heads} heads`;
}
