// A second image beside the first: the same layer, head, direction, token and colours.
import { element } from "./controls.js";
import { Glance } from "./glance.js";
import { MEAN } from "./layer.js";
import { entryName, layerBeside, tokenBeside } from "./pair.js";
import { show } from "./shown.js";
import { Stage } from "./stage.js";
import { tokenAt } from "./view.js";
import { headItems, layerItems, layerText, placeName } from "./words.js";

export class Beside {
  /** `control` chooses the second image; `node` has its photograph, `layers` and `heads` its small maps. */
  constructor(explorer) {
    this.explorer = explorer;
    this.unpacked = new Map(); // layers of the second image, by place
    const options = explorer.payload.images.map((image, place) => element("option", { value: place }, entryName(image)));
    this.select = element("select", {}, element("option", { value: "" }, "nothing"), ...options);
    this.select.addEventListener("change", () => explorer.change({ beside: this.select.value === "" ? null : Number(this.select.value) }));
    this.control = element("label", { class: "beside-choice" }, element("span", {}, "Beside it"), this.select);
    this.text = element("p", { class: "label" });
    this.stage = new Stage(this.actions(), "explorer-caption-beside");
    this.node = element("div", { class: "place" });
    this.caption = element("p", { class: "caption", id: "explorer-caption-beside" });
    this.firstNames = [0, 1].map(() => element("p", { class: "soft name" })); // of the first image, above its small maps
    this.layers = element("div", { class: "second" });
    this.heads = element("div", { class: "second" });
    this.everyLayer = new Glance("All layers of the image beside it", (place) => this.chooseLayer(place));
    this.everyHead = new Glance("Head, of the image beside it", (head) => explorer.change({ head }));
  }

  actions() {
    const { explorer } = this;
    return {
      point: (row, column) => explorer.point(this.tokenOfFirst(row, column)),
      leave: () => explorer.leave(),
      choose: (row, column) => explorer.choose(this.tokenOfFirst(row, column)),
      move: (rows, columns) => explorer.move(rows, columns),
      key: (name) => explorer.key(name),
    };
  }

  /** The token of the first image at a patch of the second. */
  tokenOfFirst(row, column) {
    const { token } = tokenBeside(tokenAt(row, column, this.stage.grid), this.second.image, this.explorer.image);
    const inside = (share) => Math.min(1 - 1e-9, Math.max(0, share));
    return { y: inside(token.y), x: inside(token.x) };
  }

  chooseLayer(place) {
    const { explorer, second } = this;
    explorer.layers.set(layerBeside(place, second.image.layers.length, explorer.image.layers.length));
  }

  /** The layer and the pictures of the second image; null if there is none. */
  async load({ image, layer, beside }) {
    if (beside === null) return null;
    const { images } = this.explorer.payload;
    const place = layerBeside(layer, images[image].layers.length, images[beside].layers.length);
    const [unpacked, pictures] = await Promise.all([this.explorer.layerAt(beside, place), this.explorer.picturesOf(beside)]);
    return { place, layer: unpacked, pictures };
  }

  /** The view of the second image, given its layer. */
  viewOf({ place, layer }) {
    const { view } = this.explorer;
    return { ...view, image: view.beside, layer: place, head: headOf(layer, view.head) };
  }

  /** The chosen token in the second image; `isOutside` if its model did not see that place. */
  placed() {
    const { explorer } = this;
    return tokenBeside(explorer.token, explorer.image, explorer.payload.images[explorer.view.beside]);
  }

  /** What the second image shows, as the explorer itself has it of the first. */
  secondOf(loaded) {
    const { layer, pictures } = loaded;
    const { payload, view, painter, painters } = this.explorer;
    const own = this.viewOf(loaded);
    const { token, isOutside } = this.placed();
    const shown = show(layer, own, token);
    const notes = [
      isOutside ? "This model did not see that place of the photograph: its nearest patch is shown." : "",
      own.head === view.head ? "" : `This layer has ${layer.about.heads} heads, so they are averaged.`,
      shown.note,
    ];
    shown.note = notes.filter(Boolean).join(" ");
    const image = payload.images[view.beside];
    const label = entryName(image);
    return { payload, image, view: own, about: layer.about, layer, shown, pictures, painter, painters, label, isSecond: true };
  }

  /** Draw the second image, `{ second, picture }`; nothing without one. */
  draw(second, picture) {
    const { view } = this.explorer;
    this.second = second;
    for (const node of this.firstNames) node.textContent = this.explorer.label;
    this.select.value = view.beside ?? "";
    [...this.select.options].slice(1).forEach((option, place) => {
      option.disabled = place === view.image;
    });
    const isShown = this.node.firstChild !== null;
    if (!second) {
      for (const node of [this.node, this.layers, this.heads]) node.replaceChildren();
      this.caption.textContent = "";
      return;
    }
    if (!isShown) {
      this.node.append(this.text, this.stage.node);
      this.layers.append(element("p", { class: "soft" }), this.everyLayer.node);
      this.heads.append(element("p", { class: "soft" }), this.everyHead.node);
    }
    const { image, about, pictures, painter } = second;
    this.text.replaceChildren(...stageLabel(second, picture));
    const [rows, columns] = picture.grid;
    const name = `Patches of ${second.label}, ${rows} rows and ${columns} columns.`;
    this.stage.draw({ ...picture, pictures, label: `${second.label}. ${picture.label}`, name });
    this.caption.textContent = `${second.label}: ${picture.caption}`;
    const shape = pictures.width / pictures.height;
    this.layers.firstChild.textContent = second.label;
    this.everyLayer.prepare(layerItems(image.layers), shape);
    this.drawLayers();
    const shared = Math.min(about.heads, this.explorer.about.heads);
    this.heads.firstChild.textContent = shared < about.heads ? `${second.label}, the heads that both have` : second.label;
    this.everyHead.prepare(headItems(shared), shape);
    this.everyHead.draw(second.shown.head, (head) => mapOf(second.layer, { ...second.view, head }, this.placed().token, true), painter, pictures);
    this.heads.hidden = view.direction === "similar";
  }

  drawLayers() {
    const { view, painter, pictures } = this.second;
    const blank = [];
    const map = (place) => this.layerMap(place) ?? (blank.unshift(place), this.explorer.source.compute ? undefined : null);
    this.everyLayer.draw(view.layer, map, painter, pictures, true);
    this.fillLayers(blank);
  }

  /** A small map of one layer of the second image; null as long as it is not unpacked, or not computed. */
  layerMap(place) {
    const { explorer } = this;
    const { view } = this.second;
    const { token } = this.placed();
    const layer = explorer.unpacked.get(`${view.image} ${place}`);
    if (!layer || !explorer.has(layer, view, token)) return null;
    return mapOf(layer, { ...view, head: headOf(layer, explorer.view.head) }, token);
  }

  /** As the explorer's own, for the second image. */
  async fillLayers(places) {
    const { explorer, second } = this;
    for (const place of places) {
      const layer = await explorer.layerAt(second.view.image, place);
      if (second !== this.second) return;
      await explorer.compute(layer, second.view, this.placed().token).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve)); // so that the page stays responsive
      if (second !== this.second) return;
      this.everyLayer.drawOne(place, this.layerMap(place) ?? undefined, second.painter, second.pictures);
    }
  }

  /** The value of the patch under the mouse, in words. */
  tell(token) {
    if (!this.second) return "";
    const { image } = this.second;
    const { row, column, text } = this.explorer.valueIn(this.second, tokenBeside(token, this.explorer.image, image).token);
    return ` Beside it: ${placeName(row, column)} ${text}.`;
  }
}

/** A head of a layer; the mean where the layer has fewer. */
export function headOf(layer, head) {
  return head === MEAN || head < layer.about.heads ? head : MEAN;
}

/** A small map for a token; null if the rows of its head are not stored, where that matters. */
export function mapOf(layer, view, token, isExact = false) {
  const shown = show(layer, view, token);
  return isExact && shown.head !== view.head ? null : { values: shown.patches, rows: layer.rows, columns: layer.columns };
}

/** What stands above a photograph beside another: its name, and its layer or method. It stays while one points. */
export function stageLabel({ image, about, label, view }, picture) {
  const isAttention = ["map", "photo"].includes(view.show);
  return [element("strong", {}, label), element("span", {}, isAttention ? layerText(about, image.layers) : picture.title)];
}

/** The same section for the second image, absent as long as there is none. */
export function alsoBeside(Panel) {
  return class {
    constructor(explorer) {
      this.panel = new Panel(explorer);
      this.node = this.panel.node;
      this.node.hidden = true;
    }

    draw({ second }) {
      this.node.hidden = !second;
      if (second) this.panel.draw(second);
    }
  };
}
