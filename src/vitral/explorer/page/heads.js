// All heads at a glance: one small map per head, and one of their mean. Choosing one shows it large.
import { element, radioKeys } from "./controls.js";
import { MEAN } from "./layer.js";
import { paintMap } from "./pictures.js";

const SIDE = 96; // pixels of a map's longer side

export class Heads {
  constructor(choose) {
    this.choose = choose;
    this.node = element("div", { class: "heads", role: "radiogroup", "aria-label": "Head" });
    radioKeys(this.node, (button) => button.click());
    this.buttons = [];
  }

  /** One button per head, when the number of heads has changed. */
  prepare(count, shape) {
    const key = `${count} ${shape}`;
    if (this.key === key) return;
    this.key = key;
    const [width, height] = shape >= 1 ? [SIDE, Math.round(SIDE / shape)] : [Math.round(SIDE * shape), SIDE];
    this.buttons = [MEAN, ...Array(count).keys()].map((head) => {
      const canvas = element("canvas", { width, height, "aria-hidden": "true" });
      const label = element("span", {}, head === MEAN ? "mean" : String(head));
      const button = element("button", { type: "button", role: "radio", class: "head" }, canvas, label);
      button.setAttribute("aria-label", head === MEAN ? "Mean of heads" : `Head ${head}`);
      button.addEventListener("click", () => this.choose(head));
      return { head, button, canvas };
    });
    this.node.replaceChildren(...this.buttons.map((one) => one.button));
  }

  /** Draw each head's map; `maps(head)` gives null for a head whose rows are not stored. */
  draw(chosen, maps, pictures) {
    for (const { head, button, canvas } of this.buttons) {
      const map = maps(head);
      const isChosen = head === chosen;
      button.setAttribute("aria-checked", String(isChosen));
      button.tabIndex = isChosen ? 0 : -1;
      button.disabled = map === null;
      const context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      if (map) paintMap(context, map, pictures, { left: 0, top: 0, width: canvas.width, height: canvas.height });
    }
  }
}
