// Small maps side by side: one per head, or one per layer. Choosing one shows it large.
import { element, radioKeys } from "./controls.js";

const SIDE = 88; // pixels of a map's longer side

export class Glance {
  constructor(label, choose) {
    this.choose = choose;
    this.node = element("div", { class: "glance", role: "radiogroup", "aria-label": label });
    radioKeys(this.node, (button) => button.click());
    this.buttons = [];
  }

  /** One button per item, `{ value, text, name }` and perhaps more text `under` that, when these, or the shape of the image, have changed. */
  prepare(items, shape) {
    const key = `${items.map((item) => item.name)} ${shape}`;
    if (this.key === key) return;
    this.key = key;
    const [width, height] = shape >= 1 ? [SIDE, Math.round(SIDE / shape)] : [Math.round(SIDE * shape), SIDE];
    this.buttons = items.map(({ value, text, under, name }) => {
      const canvas = element("canvas", { width, height, "aria-hidden": "true" });
      const button = element("button", { type: "button", role: "radio", "aria-label": name }, canvas, element("span", {}, text));
      if (under) button.append(element("span", { class: "under" }, under));
      button.addEventListener("click", () => this.choose(value));
      return { value, button, canvas };
    });
    this.node.replaceChildren(...this.buttons.map((one) => one.button));
  }

  /**
   * Draw each item's map; `maps(value)` gives null for one whose rows are not stored, or not unpacked yet. `painter` is
   * a painter, or a function that gives the one of a value.
   */
  draw(chosen, maps, painter, pictures, isFixed = false) {
    const isOne = this.buttons.some((one) => one.value === chosen);
    for (const { value, button, canvas } of this.buttons) {
      const map = maps(value);
      button.setAttribute("aria-checked", String(value === chosen));
      button.tabIndex = value === chosen || (!isOne && button === this.buttons[0].button) ? 0 : -1;
      button.disabled = !isFixed && map === null;
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      const own = typeof painter === "function" ? painter(value) : painter;
      if (map) own.paint(context, map, pictures, { left: 0, top: 0, width: canvas.width, height: canvas.height });
    }
  }
}
