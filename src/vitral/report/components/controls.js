// Elements of the page. Texts are always set as text: names of files and classes may hold markup.

/** An element with attributes and children; strings are text. */
export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Arrow keys move among the radios of a group; `choose(button)` is called for the one that is reached. */
export function radioKeys(group, choose) {
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    const radios = [...group.querySelectorAll("[role=radio]:not(:disabled)")];
    const next = radios[(radios.indexOf(group.getRootNode().activeElement) + step + radios.length) % radios.length];
    event.preventDefault();
    next.focus();
    choose(next);
  });
}

/** Arrow keys move among the buttons of a toolbar, in rows of so many; the tab key stops at one of them. */
export function arrowKeys(toolbar, columns) {
  const buttons = [...toolbar.querySelectorAll("button")];
  const stopAt = (chosen) => buttons.forEach((button) => (button.tabIndex = button === chosen ? 0 : -1));
  stopAt(buttons[0]);
  toolbar.addEventListener("focusin", (event) => stopAt(event.target));
  toolbar.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    buttons[buttons.indexOf(document.activeElement) + step]?.focus();
  });
}

/** A row of exclusive buttons: `options` are [value, label]. */
export class Choice {
  constructor(label, options, choose) {
    this.buttons = options.map(([value, text]) => {
      const button = element("button", { type: "button", role: "radio" }, text);
      button.addEventListener("click", () => choose(value));
      return { value, button };
    });
    this.node = element("div", { class: "choice", role: "radiogroup", "aria-label": label }, ...this.buttons.map((one) => one.button));
    radioKeys(this.node, (button) => button.click());
  }

  /** The value that comes after another; after the last, the first. */
  after(chosen) {
    const values = this.buttons.map((one) => one.value);
    return values[(values.indexOf(chosen) + 1) % values.length];
  }

  show(chosen) {
    const isOne = this.buttons.some((one) => one.value === chosen);
    for (const { value, button } of this.buttons) {
      button.setAttribute("aria-checked", String(value === chosen));
      button.tabIndex = value === chosen || (!isOne && button === this.buttons[0].button) ? 0 : -1;
    }
  }
}

/** A number between 0 and `last`, moved by a slider, by two buttons, or played from the beginning to the end. */
export class Slider {
  constructor(label, change, pace = 600) {
    Object.assign(this, { change, pace, timer: null });
    this.input = element("input", { type: "range", min: "0", step: "1", "aria-label": label });
    this.play = element("button", { type: "button", "aria-pressed": "false", class: "play" }, "Play");
    this.before = element("button", { type: "button", "aria-label": `Previous ${label.toLowerCase()}` }, "−");
    this.after = element("button", { type: "button", "aria-label": `Next ${label.toLowerCase()}` }, "+");
    this.text = element("output", { class: "slider-text" });
    this.node = element("div", { class: "slider" }, this.play, this.before, this.input, this.after);
    this.input.addEventListener("input", () => this.set(Number(this.input.value)));
    this.before.addEventListener("click", () => this.set(Number(this.input.value) - 1));
    this.after.addEventListener("click", () => this.set(Number(this.input.value) + 1));
    this.play.addEventListener("click", () => (this.timer ? this.stop() : this.start()));
  }

  get last() {
    return Number(this.input.max);
  }

  set(value) {
    this.stop();
    if (value >= 0 && value <= this.last) this.change(value);
  }

  start() {
    if (Number(this.input.value) === this.last) this.change(0);
    this.play.textContent = "Pause";
    this.play.setAttribute("aria-pressed", "true");
    this.timer = setInterval(() => {
      const value = Number(this.input.value);
      if (value >= this.last) this.stop();
      else this.change(value + 1);
    }, this.pace);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "Play";
    this.play.setAttribute("aria-pressed", "false");
  }

  show(value, last, text) {
    this.input.max = String(last);
    this.input.value = String(value);
    this.input.setAttribute("aria-valuetext", text);
    this.text.textContent = text;
    this.before.disabled = value === 0;
    this.after.disabled = value === last;
    this.play.disabled = last === 0;
  }
}
