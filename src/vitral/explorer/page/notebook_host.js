// The host that is a notebook's widget (anywidget): the kernel answers with the weights of any query or key.
import { element } from "./controls.js";
import { contentFrom } from "./decode.js";
import { explore } from "./explorer.js";
import { LiveSource } from "./live_source.js";

/** A function that sends a question to the kernel and gives its answer. */
function asker(model) {
  const open = new Map();
  const own = Math.random().toString(36).slice(2); // the widget may be shown several times: answers go to all of them
  let count = 0;
  const hear = (message, buffers) => {
    const question = open.get(message.id);
    if (!question) return;
    open.delete(message.id);
    if (message.error) question.reject(new Error(message.error));
    else question.resolve(floats(buffers[0]));
  };
  model.on("msg:custom", hear);
  const ask = (wanted) =>
    new Promise((resolve, reject) => {
      count += 1;
      const id = `${own} ${count}`;
      open.set(id, { resolve, reject });
      model.send({ id, ...wanted });
    });
  return { ask, stop: () => model.off("msg:custom", hear) };
}

/** The bytes of an answer as numbers, wherever they begin. */
function floats(bytes) {
  const view = bytes instanceof ArrayBuffer ? new Uint8Array(bytes) : new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return new Float32Array(view.slice().buffer);
}

/** The view as a value of the widget, which Python reads and sets. */
class WidgetMemory {
  constructor(model) {
    this.model = model;
  }

  read() {
    return `#${this.model.get("view")}`;
  }

  write(words) {
    this.model.set("view", words.slice(1));
    this.model.save_changes();
  }

  watch(changed) {
    this.changed = changed;
    this.model.on("change:view", changed);
  }

  stop() {
    if (this.changed) this.model.off("change:view", this.changed);
  }
}

/** What stands where the explorer will be, and stays there if no kernel answers, as in a notebook that was exported. */
function still({ uri, alt, caption }) {
  return element("figure", {}, element("img", { src: uri, alt }), element("figcaption", {}, caption));
}

/** A tree of its own below an element: styles of the notebook and of the explorer do not reach each other. */
function own(el, style) {
  const host = element("div", { class: "vitral-host", "data-lm-suppress-shortcuts": "true" }); // letters are the explorer's, not JupyterLab's
  host.addEventListener("keydown", (event) => event.stopPropagation());
  el.append(host);
  const root = host.attachShadow({ mode: "open" });
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(style);
  root.adoptedStyleSheets = [sheet];
  return root;
}

async function render({ model, el }) {
  const content = model.get("content");
  const place = element("div", { id: "explorer" });
  const why = element("p", { id: "why-still" }, "The explorer appears here when the notebook's kernel answers.");
  const facts = element("ul", {}, ...content.facts.map((fact) => element("li", {}, fact)));
  const outer = element(
    "section",
    { class: "vitral-explorer in-notebook", "aria-label": `Explorer of ${content.payload.model}` },
    place,
    element("div", { class: "still" }, ...content.stills.map(still), why),
    element("details", { class: "facts" }, element("summary", {}, "How this was made and checked"), facts),
  );
  own(el, model.get("sheet")).append(outer);
  const { ask, stop } = asker(model);
  const memory = new WidgetMemory(model);
  explore(place, new LiveSource(content.payload, ask, contentFrom((id) => content.texts[id]), memory)).then(
    () => {
      outer.classList.add("can-explore");
      for (const pictures of document.getElementsByClassName(content.still)) pictures.hidden = true;
    },
    (error) => {
      why.textContent = `The explorer could not start: ${error.message}`;
    },
  );
  return () => {
    stop();
    memory.stop();
  };
}

export default { render };
