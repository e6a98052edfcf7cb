// The explorer in any host. A source gives the payload, and each layer when it is looked at:
//
//     source.payload                      the header (docs/how-to/explore.md)
//     await source.layer(image, place)    a `Layer`
//     await source.content(about)         the bytes of what the header describes: tokens, positions, weights, images
//
// The source of a live host also gets weights from the model (`live_source.js`): `prepare` those of the view, `compute` others.
// A host without an address of its own has a `memory` for the view (`address.js`).
import { address } from "./address.js";
import { AboutImage, answerLine } from "./about_image.js";
import { AnswersTable } from "./answers.js";
import { Beside, alsoBeside, headOf, mapOf, stageLabel } from "./beside.js";
import { BreakIt } from "./break_it.js";
import { Choice, Slider, element } from "./controls.js";
import { explainedWords } from "./explained.js";
import { Glance } from "./glance.js";
import { MEAN } from "./layer.js";
import { Methods } from "./methods.js";
import { besideAfter, entryName } from "./pair.js";
import { Painters } from "./painters.js";
import { methodOf, pictureOf } from "./picture.js";
import { loadPictures } from "./pictures.js";
import { PositionTable } from "./positions.js";
import { relevanceValue } from "./relevance.js";
import { saveButton } from "./save.js";
import { Scale } from "./scale.js";
import { choose, show } from "./shown.js";
import { loadTokens } from "./similarity.js";
import { Stage } from "./stage.js";
import { TokenButtons } from "./tokens.js";
import { fromAddress, hasTokens, patchAt, toAddress, tokenAt } from "./view.js";
import { chosenName, headItems, layerItems, layerText, othersSentence, placeName, valueText, what } from "./words.js";

const VERSION = 1; // of the payload
const WAIT = 250; // milliseconds before a view is put into the address
const PATIENCE = 300; // milliseconds before the page says that the model computes

// The sections below layers and heads. Each is made with the explorer, has a `node`, and draws itself for what the
// explorer shows: its `payload`, `image`, `view`, `about` (the layer's header), `layer`, `shown`, `pictures`, `painter`,
// and `label`, the image's name where another stands beside it; that one is the explorer's `second`.
const PANELS = [Methods, AnswersTable, BreakIt, PositionTable, AboutImage].flatMap((Panel) => [Panel, alsoBeside(Panel)]);

/** Fill an element with the explorer. Throws for a payload of another version. */
export async function explore(host, source) {
  if (source.payload.version !== VERSION) {
    throw new Error(`This page reads payloads of version ${VERSION}, not ${source.payload.version}.`);
  }
  const explorer = new Explorer(host, source);
  await explorer.start(host);
  host.explorer = explorer;
  return explorer;
}

class Explorer {
  constructor(host, source) {
    this.payload = source.payload;
    this.source = source;
    this.painters = new Painters(this.payload);
    this.palette = this.painters.of(null).palette;
    this.memory = source.memory ?? address;
    this.view = fromAddress(this.memory.read(), this.payload);
    this.unpacked = new Map(); // layers, by image and place
    this.pointed = null; // the token under the mouse, shown as long as none is held
    this.isHeld = this.view.token.name === undefined && this.memory.read().includes("token=");
    this.build(host);
  }

  get image() {
    return this.payload.images[this.view.image];
  }

  get about() {
    return this.image.layers[this.view.layer];
  }

  get token() {
    return this.pointed ?? this.view.token;
  }

  /** What draws the small maps of the view, on its scale. */
  get painter() {
    return this.painters.ofView(this.view);
  }

  /** The image's name, where another stands beside it. */
  get label() {
    return this.view.beside === null ? "" : entryName(this.image);
  }

  build(host) {
    const change = (changes) => this.change(changes);
    this.images = new Choice("Image", this.payload.images.map((image, place) => [place, entryName(image)]), (image) => change({ image }));
    this.direction = new Choice("Direction", [["to", "What it attends to"], ["from", "What attends to it"], ...(hasTokens(this.payload) ? [["similar", "What is similar to it"]] : [])], (direction) => change({ direction }));
    this.place = new Choice("Tokens", [["before", "Before the block"], ["after", "After the block"]], (place) => change({ place }));
    this.show = new Choice("Picture", [["map", "Map"], ["photo", "Photograph"]], (picture) => change({ show: picture }));
    this.layers = new Slider("Layer", (layer) => change({ layer }));
    this.heads = new Glance("Head", (head) => change({ head }));
    this.everyLayer = new Glance("All layers", (layer) => this.layers.set(layer));
    this.tokens = new TokenButtons((name) => this.chooseName(name));
    this.title = element("p", { class: "title" });
    this.caption = element("p", { class: "caption", id: "explorer-caption" });
    this.readout = element("p", { class: "readout" });
    this.live = element("p", { class: "unseen", "aria-live": "polite" });
    this.stage = new Stage(this.stageActions(), "explorer-caption");
    this.text = element("p", { class: "label" });
    this.scale = new Scale();
    this.beside = new Beside(this);
    this.panels = PANELS.map((Panel) => new Panel(this));
    const save = saveButton(this);
    this.answer = element("p", { class: "answer" });
    const left = element("div", { class: "left" }, this.answer, this.direction.node, this.place.node, this.tokens.node);
    left.append(element("div", { class: "actions" }, this.show.node, save), this.title);
    const stages = element("div", { class: "stages" }, element("div", { class: "place" }, this.text, this.stage.node), this.beside.node);
    left.append(stages, this.readout, this.scale.node, this.caption, this.beside.caption);
    const right = element("div", { class: "right" });
    right.append(
      element("section", { class: "layers" }, element("h2", {}, "Layers"), this.layers.text, this.layers.node, this.beside.firstNames[0], this.everyLayer.node, this.beside.layers),
      element("section", { class: "heads" }, element("h2", {}, "Heads of this layer"), this.beside.firstNames[1], this.heads.node, this.beside.heads),
      ...this.panels.map((panel) => panel.node),
    );
    host.setAttribute("aria-busy", "true");
    this.columns = element("div", { class: "columns" }, left, right);
    host.replaceChildren(...(this.payload.images.length > 1 ? [this.images.node, this.beside.control] : []), explainedWords(), this.columns, this.live);
  }

  stageActions() {
    return {
      point: (row, column) => this.point(tokenAt(row, column, this.stage.grid)),
      leave: () => this.leave(),
      choose: (row, column) => this.choose(tokenAt(row, column, this.stage.grid)),
      move: (rows, columns) => this.move(rows, columns),
      key: (name) => this.key(name),
    };
  }

  async start(host) {
    this.memory.watch(() => {
      if (this.memory.read() === this.address) return;
      this.view = fromAddress(this.memory.read(), this.payload);
      this.isHeld = this.view.token.name === undefined;
      this.render();
    });
    new ResizeObserver(() => this.render()).observe(this.stage.node);
    await this.render();
    host.setAttribute("aria-busy", "false");
  }

  /** Change the view; what does not fit the new layer is adapted. */
  async change(changes) {
    const beside = changes.image === undefined ? {} : { beside: besideAfter(this.payload, this.view, changes.image) };
    // Who chooses a token, layer, head or direction wants to see its attention, not the map of a method.
    const isOfAttention = Object.keys(changes).some((name) => ["token", "layer", "head", "direction", "place"].includes(name));
    const show = isOfAttention && methodOf(this.image, this.view) ? { show: "map" } : {};
    this.view = { ...this.view, ...beside, ...show, ...changes };
    const layers = this.image.layers;
    this.view.layer = Math.min(this.view.layer, layers.length - 1);
    if (this.view.head !== MEAN && this.view.head >= this.about.heads) this.view.head = MEAN;
    this.pointed = null;
    if (await this.render()) this.live.textContent = this.spoken();
  }

  /** What a change shows, for those who hear it. */
  spoken() {
    const { view, shown, second, picture } = this;
    if (methodOf(this.image, view)) return picture.caption;
    const beside = second ? `Beside it, ${second.label}: ${what(second.view, second.about, second.shown)} ${second.shown.note}` : "";
    return [this.label && `${this.label}:`, what(view, this.about, shown), othersSentence(view, shown), shown.note, beside].filter(Boolean).join(" ");
  }

  point(token) {
    if (this.isHeld || methodOf(this.image, this.view)) this.tell(token);
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
  choose(token) {
    const { row, column } = patchAt(token, this.about.grid);
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
      const next = choose(this.layer, this.view, token);
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
      h: () => this.view.direction !== "similar" && this.change({ head: this.view.head === MEAN ? 0 : this.view.head + 1 < heads ? this.view.head + 1 : MEAN }),
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

  /** The value of the patch under the mouse, while another is held, or in the map of a method. */
  tell(token) {
    if (this.layer !== this.unpacked.get(`${this.view.image} ${this.view.layer}`)) return; // its map is not there yet
    const { row, column, text } = this.valueIn(this, token);
    this.readout.textContent = `${placeName(row, column)} ${text}${this.second ? "." : ""}${this.beside.tell(token)}`;
  }

  /** The place and value of a token's patch in the first or second image. */
  valueIn({ image, about, shown }, token) {
    const method = methodOf(image, this.view);
    const grid = method ? method.grid : about.grid;
    const { row, column } = patchAt(token, grid);
    const value = (method ? method.values : shown.patches)[row * grid[1] + column];
    const gets = { to: "gets", from: "gives it", similar: "has similarity" }[shown.direction];
    const text = method ? `has ${relevanceValue(method, value)}` : Number.isNaN(value) ? "has no value" : `${gets} ${valueText(shown, value)}`;
    return { row, column, text };
  }

  hint() {
    if (methodOf(this.image, this.view)) return "A method's map stands here. Point at a patch for its value; Map, a click on a patch, a layer or a head bring attention back.";
    return this.isHeld
      ? `Held: ${chosenName(this.shown)}. Point at other patches for their values; click it again or press Esc to release it.`
      : "Point at a patch, click or tap to hold it, or move with the arrow keys.";
  }

  /** Draw the view; whether it is drawn, and not another that was chosen meanwhile. */
  async render() {
    const wanted = (this.wanted = {});
    const { image, layer: place } = this.view;
    const [layer, pictures, beside] = await Promise.all([this.layerAt(image, place), this.picturesOf(image), this.beside.load(this.view)]);
    if (wanted !== this.wanted) return false; // another view was chosen meanwhile
    if (this.source.prepare && !(await this.prepared(layer, beside, wanted))) return false;
    this.layer = layer;
    this.pictures = pictures;
    this.shown = show(layer, this.view, this.token);
    this.second = beside && this.beside.secondOf(beside);
    this.draw();
    this.keepAddress();
    return true;
  }

  /** Have the model compute the weights of the view; whether the view is still wanted then, and has them. */
  async prepared(layer, beside, wanted) {
    const late = setTimeout(() => this.wait("The model is computing these weights."), PATIENCE);
    try {
      await this.source.prepare(layer, this.view.direction, choose(layer, this.view, this.token).number);
      if (beside && wanted === this.wanted) await this.compute(beside.layer, this.beside.viewOf(beside), this.beside.placed().token);
    } catch (error) {
      if (!this.shown) throw error; // the host says why the explorer did not start
      if (wanted === this.wanted) this.wait(error.message);
      return false;
    } finally {
      clearTimeout(late);
    }
    return wanted === this.wanted;
  }

  /** Have the model compute the weights that a map of a layer needs; nothing where they are stored. */
  async compute(layer, view, token) {
    await this.source.compute?.(layer, view.direction, choose(layer, view, token).number);
  }

  /** Whether the weights that a map of a layer needs are here. */
  has(layer, view, token) {
    if (view.direction === "similar") return Boolean(layer.tokens);
    const { number } = choose(layer, view, token);
    return !this.source.compute || number < 0 || layer.has(view.direction, number);
  }

  /** Fade the map that is still that of another view, and say why. */
  wait(reason) {
    this.stage.node.classList.add("waiting");
    this.readout.textContent = this.live.textContent = reason;
  }

  /** Put the view into the address, once it stays: browsers refuse to change it hundreds of times. */
  keepAddress() {
    const words = toAddress(this.view, this.payload);
    if (words === this.address) return;
    clearTimeout(this.writing);
    const write = () => {
      this.address = words;
      this.memory.write(words);
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
    const { view, about, shown, layer, pictures, second, label } = this;
    const picture = (this.picture = pictureOf(this, this.payload, this.painters));
    const [rows, columns] = picture.grid;
    const of = label || this.image.name;
    const name = `Patches of ${of}, ${rows} rows and ${columns} columns. Arrow keys choose a patch; comma and full stop change the layer, h the head, d the direction.`;
    this.columns.classList.toggle("comparing", second !== null);
    this.stage.node.classList.remove("waiting");
    this.stage.draw({ ...picture, pictures, label: `${of}. ${picture.label}`, name });
    this.title.textContent = picture.title;
    this.text.replaceChildren(...(second ? stageLabel(this, picture) : []));
    this.caption.textContent = label ? `${label}: ${picture.caption}` : picture.caption;
    this.secondPicture = second && pictureOf(second, this.payload, this.painters);
    this.beside.draw(second, this.secondPicture);
    this.scale.draw(picture, this.secondPicture);
    this.answer.replaceChildren(...[this, second].filter(Boolean).map(answerLine));
    this.readout.textContent = this.hint();
    this.images.show(view.image);
    this.direction.show(view.direction);
    this.place.show(view.place);
    this.place.node.hidden = view.direction !== "similar";
    this.heads.node.parentNode.hidden = view.direction === "similar"; // whole tokens are compared
    this.show.show(view.show);
    this.layers.show(view.layer, this.image.layers.length - 1, layerText(about, this.image.layers));
    const shape = pictures.width / pictures.height;
    this.heads.prepare(headItems(about.heads), shape);
    this.heads.draw(shown.head, (head) => this.headMap(layer, head), this.painter, pictures);
    this.everyLayer.prepare(layerItems(this.image.layers), shape);
    const blank = []; // small maps that are still to come
    const layerMap = (place) => this.layerMap(place) ?? (blank.unshift(place), this.source.compute ? undefined : null);
    this.everyLayer.draw(view.layer, layerMap, this.painter, pictures, true);
    this.tokens.draw(this);
    this.fillLayers(blank);
    this.panels.forEach((panel) => panel.draw(this));
  }

  /** A small map of one head, for the token that is shown; null if its rows are not stored. */
  headMap(layer, head) {
    return mapOf(layer, { ...this.view, head }, this.token, true);
  }

  /** A small map of one layer, for the token that is shown; null as long as it is not unpacked, or not computed. */
  layerMap(place) {
    const layer = this.unpacked.get(`${this.view.image} ${place}`);
    if (!layer || !this.has(layer, this.view, this.token)) return null;
    return mapOf(layer, { ...this.view, head: headOf(layer, this.view.head) }, this.token);
  }

  /** A layer, unpacked. */
  async layerAt(image, place) {
    const layer = await this.source.layer(image, place);
    if (this.view.direction === "similar") await loadTokens(layer, this.payload.images[image], this.source);
    this.unpacked.set(`${image} ${place}`, layer);
    return layer;
  }

  /** Unpack these layers of the image, or have them computed, one after another, and draw each. */
  async fillLayers(places) {
    const { wanted } = this;
    for (const place of places) {
      const layer = await this.layerAt(this.view.image, place);
      if (wanted !== this.wanted) return;
      await this.compute(layer, this.view, this.token).catch(() => {}); // the view's own says why
      await new Promise((resolve) => setTimeout(resolve)); // so that the page stays responsive
      if (wanted !== this.wanted) return;
      this.everyLayer.drawOne(place, this.layerMap(place) ?? undefined, this.painter, this.pictures);
    }
  }
}
