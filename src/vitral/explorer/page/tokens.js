// Buttons for CLS and registers, with their shares in the view.
import { element } from "./controls.js";
import { shareText, tokenName } from "./words.js";

export class TokenButtons {
  constructor(choose) {
    this.choose = choose;
    this.node = element("div", { class: "tokens" });
  }

  draw({ layer, shown, view }) {
    const shares = new Map(shown.others.map((other) => [other.name, other.share]));
    const names = [...new Set([...layer.keyNames, ...layer.queryNames])];
    if (this.names !== names.join()) {
      this.names = names.join();
      this.buttons = names.map((name) => {
        const share = element("span", { class: "share" });
        const button = element("button", { type: "button" }, tokenName(name), " ", share);
        button.addEventListener("click", () => this.choose(name));
        return { name, button, share };
      });
      this.node.replaceChildren(...this.buttons.map((one) => one.button));
    }
    for (const { name, button, share } of this.buttons) {
      const value = shares.get(name);
      share.textContent = value === undefined || Number.isNaN(value) ? "" : shareText(view, value);
      button.setAttribute("aria-pressed", String(shown.name === name));
    }
  }
}
