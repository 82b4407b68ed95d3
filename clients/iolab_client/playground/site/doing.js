// What can be tried: each form is a request, and what was opened is listed until it is ended.

import { byId, make, say } from "./dom.js";
import { page } from "./stream.js";

const items = new Map();
let snapshot = { models: [], opened: [] };

/** Ask for something to be done; what came of it, or an Error with the line that says why not. */
export async function ask(what, wish) {
  const response = await fetch(`/do/${what}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ page, ...wish }),
  });
  const said = await response.json().catch(() => ({ error: `the playground answered ${response.status}` }));
  if (!response.ok) throw new Error(said.error);
  return said;
}

/** Begin: what each form does. */
export function prepareDoing() {
  const number = (id) => Number(byId(id).value);
  const model = () => byId("model").value;
  on("say-form", async () => {
    const told = await ask("say", { model: model(), text: byId("say-text").value, ending: byId("say-ending").value });
    showConversation(told.steps);
    return told.answered_ms === null ? "No answer came." : `The answer took ${told.answered_ms} ms.`;
  });
  on("crowd-form", async () => {
    await ask("crowd", { model: model(), count: number("crowd-count") });
    return `${number("crowd-count")} silent clients come to ${model()}.`;
  });
  on("never-reads-form", async () => {
    await ask("never-reads", { model: model() });
    return `It sends to ${model()}, and never reads.`;
  });
  on("load-form", async () => {
    const wish = { connections: number("load-connections"), size: number("load-size"), seconds: number("load-seconds") };
    await ask("load", { model: model(), ...wish });
    return `A load on ${model()} has begun; its result comes below.`;
  });
  on("dial-form", async () => {
    const wish = { wait_ms: number("dial-wait"), cpu_us: number("dial-cpu") };
    await ask("dial", { model: model(), ...wish });
    return `Each answer of ${model()} now waits ${wish.wait_ms} ms and computes for ${wish.cpu_us} µs.`;
  });
  on("kill-form", async () => {
    const { pid } = await ask("kill", { model: model() });
    return `Process ${pid} of ${model()} was killed: watch its card, where another one takes its place.`;
  });
  byId("model").addEventListener("change", showChoice);
}

/** Show what is open, and which models there are. */
export function showOpened(newest) {
  snapshot = newest;
  const select = byId("model");
  if (select.options.length !== newest.models.length) {
    select.replaceChildren(...newest.models.map(({ model }) => make("option", { value: model }, model)));
    select.value = "epoll_loop";
  }
  showChoice();
  const there = new Set(newest.opened.map(({ number }) => number));
  for (const [number, item] of items) {
    if (!there.has(number)) {
      // Whoever stands on its button is not to be thrown to the top of the page.
      if (item.element.contains(document.activeElement)) byId("model").focus();
      item.element.remove();
      items.delete(number);
    }
  }
  for (const thing of newest.opened) {
    if (!items.has(thing.number)) addItem(thing);
    const item = items.get(thing.number);
    const who = thing.page === page ? "" : " (another page's)";
    say(item.text, `${thing.model}: ${thing.text}${who}`);
    item.element.dataset.kind = thing.kind;
    if (thing.result) item.element.dataset.verdict = thing.result.verdict;
    say(item.button, thing.result ? "Remove" : "End");
  }
  byId("opened-none").hidden = items.size > 0;
}

function addItem(thing) {
  const text = make("span", {});
  const end = async () => {
    try {
      await ask("end", { number: thing.number });
    } catch (error) {
      tell(error.message, true);
    }
  };
  const button = make("button", { type: "button", "aria-label": `End: ${thing.model}, ${thing.kind}`, click: end });
  const element = make("li", {}, text, " ", button);
  items.set(thing.number, { element, text, button });
  byId("opened-list").append(element);
}

function showChoice() {
  const chosen = snapshot.models.find(({ model }) => model === byId("model").value);
  byId("kill-form").hidden = !chosen || chosen.processes.length < 2;
}

function showConversation(steps) {
  byId("conversation").replaceChildren(
    ...steps.map(({ ms, what, data }) =>
      make("li", {}, make("span", { class: "ms" }, `${ms} ms`), ` ${what}`, data ? make("pre", {}, data) : ""),
    ),
  );
}

function tell(text, failed = false) {
  const told = byId("told");
  told.classList.toggle("failed", failed);
  say(told, text);
}

/** Have a form do something instead of being sent. Its button rests meanwhile. */
function on(id, act) {
  const form = byId(id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("button");
    button.setAttribute("aria-disabled", "true");
    if (form.dataset.busy) return;
    form.dataset.busy = "yes";
    tell("…");
    try {
      tell(await act());
    } catch (error) {
      tell(error.message, true);
    }
    delete form.dataset.busy;
    button.removeAttribute("aria-disabled");
  });
}
