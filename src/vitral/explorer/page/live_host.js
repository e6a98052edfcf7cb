// The host that is a page of this machine: the program that wrote it answers with the weights of any query or key.
import { contentFrom } from "./decode.js";
import { explore } from "./explorer.js";
import { LiveSource } from "./live_source.js";

const payload = JSON.parse(document.getElementById("payload").textContent);

async function ask(wanted) {
  let answer;
  try {
    answer = await fetch(`weights?${new URLSearchParams(wanted)}`);
  } catch {
    throw new Error("The model does not answer. Is vitral explore --live still running? Start it again and reload this page.");
  }
  if (!answer.ok) throw new Error(await answer.text());
  return new Float32Array(await answer.arrayBuffer());
}

if (document.documentElement.classList.contains("can-explore")) {
  try {
    window.explorer = await explore(document.getElementById("explorer"), new LiveSource(payload, ask, contentFrom((id) => document.getElementById(id).textContent)));
  } catch (error) {
    document.documentElement.classList.remove("can-explore"); // the still pictures come back
    document.getElementById("why-still").textContent = `The explorer could not start: ${error.message}`;
    throw error;
  }
}
