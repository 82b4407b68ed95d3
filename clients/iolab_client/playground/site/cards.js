// The cards: one per model, with its figures, its sparkline and a strip for each of its threads.

import { byId, bytes, make, say, short } from "./dom.js";
import { colour, kindOf, kinds, meaning } from "./calls.js";
import { sparkline, strip, trim } from "./charts.js";

// Threads that every server has beside those that serve; and how many strips a card shows at most.
const CARETAKERS = new Set(["stop", "books", "log", "supervisor"]);
const STRIPS = 12;

const cards = new Map();
let colours = new Map();

/** Begin: the legend, and the colours of the scheme that is in force. */
export function prepareCards() {
  const readColours = () => {
    colours = new Map([...kinds.map(({ kind }) => [kind, colour(kind)]), ["line", colour("ready")]]);
  };
  readColours();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  byId("legend").append(
    ...kinds.map(({ kind, title }) => make("li", {}, make("span", { class: `swatch call-${kind}` }), title)),
  );
}

/** Show a snapshot. */
export function showCards(snapshot) {
  for (const model of snapshot.models) {
    if (!cards.has(model.model)) {
      const card = new Card(model);
      cards.set(model.model, card);
      byId("cards").append(card.element);
    }
    cards.get(model.model).show(model, snapshot.at);
  }
}

/** Show what each thread does, in words, for as long as the page is frozen. */
export function explainCards(frozen) {
  for (const card of cards.values()) card.explain(frozen);
}

class Card {
  constructor(model) {
    this.rates = [];
    this.threads = new Map();
    this.model = model;
    this.state = make("span", { class: "state" });
    this.why = make("p", { class: "why" });
    this.figures = Object.fromEntries(
      ["open", "waiting", "answers/s", "CPU", "memory"].map((name) => [name, make("dd", {}, "–")]),
    );
    this.line = make("canvas", { class: "line", "aria-hidden": "true" });
    this.strips = make("ul", { class: "strips", "aria-label": `Threads of ${model.model}` });
    this.more = make("p", { class: "more" });
    this.words = make("div", { class: "words" });
    this.dial = make("p", { class: "dial" });
    this.element = make(
      "article", { class: "card", id: `card-${model.model}`, "aria-labelledby": `name-${model.model}` },
      make("h3", { id: `name-${model.model}` }, model.model, " ", make("span", { class: "port" }, `:${model.port}`)),
      this.state,
      make("p", { class: "summary" }, model.summary),
      this.why,
      make("dl", {}, ...Object.entries(this.figures).map(([name, figure]) => make("div", {}, make("dt", {}, name), figure))),
      this.dial, this.line, this.strips, this.more, this.words,
    );
  }

  show(model, at) {
    this.model = model;
    this.element.dataset.state = model.state;
    say(this.state, model.state === "gone" ? "not there" : model.state);
    say(this.why, model.why);
    const there = model.state !== "gone";
    say(this.figures.open, there ? short(model.open) : "–");
    say(this.figures.waiting, there ? short(model.waiting + model.accept_queue) : "–");
    say(this.figures["answers/s"], model.rate === null ? "–" : short(model.rate));
    say(this.figures.CPU, model.cpu_percent === null ? "–" : `${model.cpu_percent.toFixed(model.cpu_percent < 10 ? 1 : 0)} %`);
    say(this.figures.memory, there ? bytes(model.memory_bytes) : "–");
    const parts = [];
    if (model.work.wait_ms) parts.push(`waits ${model.work.wait_ms} ms`);
    if (model.work.cpu_us) parts.push(`computes for ${model.work.cpu_us} µs`);
    say(this.dial, parts.length ? `work dial: each answer ${parts.join(" and ")}` : "");
    this.rates.push([at, model.rate ?? 0]);
    trim(this.rates, at);
    if (there || this.wasThere) sparkline(this.line, there ? this.rates : [], at, colours.get("line"));
    this.wasThere = there;
    this.showThreads(model, at);
  }

  showThreads(model, at) {
    const serving = [];
    for (const process of model.processes) {
      for (const thread of process.threads) {
        if (!CARETAKERS.has(thread.name)) serving.push({ ...thread, pid: process.pid });
      }
    }
    // Those that do something else than most of them are seen before their number ends the list.
    const shown = serving.slice(0, STRIPS);
    const keys = new Set(shown.map((thread) => `${thread.pid}/${thread.tid}`));
    for (const [key, thread] of this.threads) {
      if (!keys.has(key)) {
        thread.element.remove();
        this.threads.delete(key);
      }
    }
    for (const thread of shown) {
      const key = `${thread.pid}/${thread.tid}`;
      if (!this.threads.has(key)) {
        const added = new Thread(thread, model.processes.length > 1);
        this.threads.set(key, added);
        this.strips.append(added.element);
      }
      this.threads.get(key).show(thread, at);
    }
    const more = serving.length - shown.length + Object.values(model.more_threads).reduce((sum, count) => sum + count, 0);
    say(this.more, more > 0 ? `and ${more} threads more` : "");
  }

  explain(frozen) {
    this.words.replaceChildren();
    if (!frozen || this.model.state === "gone") return;
    // Threads that do the same are told of once.
    const groups = new Map();
    for (const thread of this.threads.values()) {
      groups.set(thread.inWords(), [...(groups.get(thread.inWords()) ?? []), thread.title]);
    }
    this.words.append(
      make("ul", { class: "explained" }, ...Array.from(groups, ([words, titles]) => make("li", {}, make("b", {}, names(titles)), ` ${words}`))),
    );
  }
}

/** The names of some threads: `worker-0 to worker-5 (6 threads), each`. */
function names(titles) {
  return titles.length === 1 ? titles[0] : `${titles[0]} to ${titles.at(-1)} (${titles.length} threads), each`;
}

class Thread {
  constructor(thread, withProcess) {
    this.samples = [];
    this.title = withProcess ? `${thread.name} of ${thread.pid}` : thread.name;
    this.canvas = make("canvas", { "aria-hidden": "true" });
    this.call = make("span", { class: "call" });
    this.element = make("li", {}, make("span", { class: "thread" }, this.title), this.canvas, this.call);
  }

  show(thread, at) {
    this.thread = thread;
    const kind = kindOf(thread.syscall);
    this.samples.push([at, kind]);
    trim(this.samples, at);
    this.call.className = `call call-text-${kind}`;
    say(this.call, thread.syscall);
    this.call.title = thread.frame ? `${thread.frame.file}:${thread.frame.line}  ${thread.frame.code}` : "";
    strip(this.canvas, this.samples, at, colours);
  }

  inWords() {
    const { syscall, frame } = this.thread;
    const doing = syscall === "running" ? "runs" : `is in ${syscall}`;
    const where = frame ? ` Its line of Python: ${frame.file}:${frame.line}, in ${frame.function}: ${frame.code}` : "";
    return `${doing}: it ${meaning(syscall)}.${where}`;
  }
}
