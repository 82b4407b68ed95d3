// Lessons: first a prediction, then each step as it is done, then what was seen, and why.

import { byId, bytes, make, say } from "./dom.js";
import { ask } from "./doing.js";

// How long a look, or a load, may take beyond its time before the lesson goes on without it.
const PATIENCE_MS = 20_000;

let snapshot = { models: [], opened: [] };
const watchers = new Set();
let running = null;

/** All lessons, asked for until they come: a browser gives up what it waits for when a network of the machine changes. */
async function fetchLessons() {
  for (;;) {
    try {
      return await (await fetch("/lessons")).json();
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
  }
}

/** Begin: the list of lessons. */
export async function prepareLessons() {
  const lessons = await fetchLessons();
  byId("lesson-list").append(
    ...lessons.map((lesson) => make("li", {}, make("button", { type: "button", click: () => open(lesson) }, lesson.title))),
  );
  if (!lessons.length) byId("lessons").append(make("p", {}, "There are none here: configs/lessons/ has them in a checkout."));
}

/** Each snapshot is seen by the step that waits for it. */
export function seeSnapshot(newest) {
  snapshot = newest;
  for (const watcher of watchers) watcher(newest);
}

function open(lesson) {
  const choices = lesson.choices.map((choice, index) => {
    const radio = make("input", { type: "radio", name: "prediction", id: `choice-${index}`, value: index });
    return make("p", { class: "choice" }, radio, " ", make("label", { for: `choice-${index}` }, choice.text));
  });
  const title = make("h3", { tabindex: "-1" }, lesson.title);
  const hint = make("p", { class: "failed", role: "status" });
  const begin = make("button", { type: "submit", class: "main" }, "See what happens");
  const form = make(
    "form", { class: "lesson-form" },
    make("fieldset", {}, make("legend", {}, "What do you think?"), ...choices), hint, begin,
  );
  const back = make("button", { type: "button", click: () => leave(lesson) }, "Back to the lessons");
  const steps = make("ol", { class: "steps", "aria-live": "polite" });
  const seen = make("tbody", {});
  const table = make(
    "table", { hidden: true }, make("caption", {}, "What was seen"),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "step"), make("th", { scope: "col" }, "seen"))), seen,
  );
  const outcome = make("div", { class: "outcome", tabindex: "-1" });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const chosen = form.querySelector("input:checked");
    if (!chosen) return say(hint, "Choose one first: a guess that turns out wrong teaches most.");
    say(hint, "");
    for (const element of form.elements) element.disabled = true;
    perform(lesson, Number(chosen.value), { steps, table, seen, outcome });
  });
  const missing = lesson.models.filter((slug) => snapshot.models.find(({ model }) => model === slug)?.state !== "running");
  const warning = missing.length ? make("p", { class: "failed" }, `Not there now: ${missing.join(", ")}. See the card for why.`) : "";
  const panel = byId("lesson");
  panel.replaceChildren(title, make("p", {}, lesson.question), warning, form, steps, table, outcome, back);
  panel.hidden = false;
  byId("lesson-list").hidden = true;
  highlight(lesson.models);
  title.focus();
}

function leave() {
  running?.abort();
  byId("lesson").hidden = true;
  byId("lesson").replaceChildren();
  byId("lesson-list").hidden = false;
  highlight([]);
  byId("lesson-list").querySelector("button").focus();
}

/** The cards that the lesson is about come first. */
function highlight(slugs) {
  for (const card of document.querySelectorAll(".card")) {
    card.classList.toggle("chosen", slugs.includes(card.id.replace("card-", "")));
  }
}

async function perform(lesson, chosen, parts) {
  const run = new AbortController();
  running = run;
  const opened = [];
  try {
    for (const step of lesson.steps) {
      const item = make("li", { class: "now" }, step.tell);
      parts.steps.append(item);
      let result = await act(step, opened, run.signal);
      if (step.wait_seconds) await pause(step.wait_seconds * 1000, run.signal);
      if (step.never_reads || step.crowd) result = snapshot.opened.find(({ number }) => number === opened.at(-1))?.text ?? "it is gone";
      item.className = "done";
      if (step.named) {
        parts.table.hidden = false;
        parts.seen.append(make("tr", {}, make("th", { scope: "row" }, step.named), make("td", {}, result)));
      }
    }
    conclude(lesson, chosen, parts.outcome);
  } catch (error) {
    if (!run.signal.aborted) parts.steps.append(make("li", { class: "failed" }, `It could not be done: ${error.message}`));
  } finally {
    await end(opened);
    if (running === run) running = null;
  }
}

function conclude(lesson, chosen, outcome) {
  const right = lesson.choices.findIndex((choice) => choice.right);
  const verdict = chosen === right
    ? "That is what you said."
    : `You said: “${lesson.choices[chosen].text}” What happened is: “${lesson.choices[right].text}”`;
  const links = lesson.links.map(({ text, href }) => make("li", {}, make("a", { href }, text)));
  const trial = lesson.claim
    ? make("p", {}, "To have it measured on this machine: ", make("code", {}, `iolab-client experiment ${lesson.claim}`))
    : "";
  outcome.append(
    make("p", { class: chosen === right ? "good" : "other" }, make("strong", {}, verdict)),
    make("h4", {}, "Why"),
    ...lesson.explain.map((paragraph) => make("p", {}, paragraph)),
    trial,
    links.length ? make("ul", { class: "links" }, ...links) : "",
  );
  outcome.focus();
}

/** Do one step; what is to be seen of it, in words. */
async function act(step, opened, signal) {
  if (step.say) return hello(await ask("say", { text: "hello", ...step.say }));
  if (step.crowd) opened.push((await ask("crowd", { ...step.crowd, count: clients(step.crowd) })).number);
  if (step.never_reads) opened.push((await ask("never-reads", step.never_reads)).number);
  if (step.dial) opened.push((await ask("dial", step.dial)).number);
  if (step.kill) return `process ${(await ask("kill", step.kill)).pid}`;
  if (step.look) return look(step.look, signal);
  if (step.load) {
    const { number } = await ask("load", { ...step.load, connections: clients({ ...step.load, count: step.load.connections }) });
    opened.push(number);
    return load(number, step.load.seconds, signal);
  }
  if (step.end) await end(opened);
  return "";
}

function hello({ steps, answered_ms: ms }) {
  return ms === null ? steps.at(-1).what : `answered after ${ms} ms`;
}

function clients({ model, count }) {
  if (count !== "workers") return count;
  const card = snapshot.models.find((one) => one.model === model);
  return card.processes.flatMap(({ threads }) => threads).filter(({ name }) => name.startsWith("worker-")).length;
}

async function load(number, seconds, signal) {
  const thing = await until((newest) => {
    const found = newest.opened.find((one) => one.number === number);
    return !found || found.result || !found.running ? found ?? {} : null;
  }, seconds * 1000 + PATIENCE_MS, signal);
  if (!thing?.result) return thing?.text ?? "no result in time";
  const { rate, p50_us: p50, verdict } = thing.result;
  return `${rate.toFixed(0)} answers/s; the middle one took ${(p50 / 1000).toFixed(p50 < 10_000 ? 1 : 0)} ms (${verdict})`;
}

/** A figure of a card, over some seconds. */
async function look({ model, figure, seconds }, signal) {
  const samples = [];
  const end = performance.now() + seconds * 1000;
  await until((newest) => {
    const card = newest.models.find((one) => one.model === model);
    if (card.state !== "running") return { gone: true };
    samples.push(value(card, figure));
    return performance.now() >= end ? { over: true } : null;
  }, seconds * 1000 + PATIENCE_MS, signal);
  if (!samples.length) return "it is not there";
  if (figure === "calls") return [...new Set(samples.flat())].join(", ");
  const known = samples.filter((sample) => sample !== null);
  if (!known.length) return "not known";
  const mean = known.reduce((sum, sample) => sum + sample, 0) / known.length;
  const inWords = { cpu_percent: `${mean.toFixed(1)} % of a processor`, memory_bytes: bytes(mean), rate: `${mean.toFixed(0)} answers/s` };
  return inWords[figure] ?? String(known.at(-1));
}

function value(card, figure) {
  const threads = card.processes.flatMap((process) => process.threads);
  const more = Object.values(card.more_threads).reduce((sum, count) => sum + count, 0);
  if (figure === "threads") return threads.length + more;
  if (figure === "processes") return card.processes.length;
  if (figure === "calls") return threads.slice(0, 1).map(({ syscall }) => syscall);
  return card[figure];
}

/** Wait for a snapshot that shows something; null if none does in time. */
function until(shows, milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const finish = (settle, result) => {
      watchers.delete(watcher);
      clearTimeout(timer);
      settle(result);
    };
    const watcher = (newest) => {
      const result = shows(newest);
      if (result) finish(resolve, result);
    };
    const timer = setTimeout(() => finish(resolve, null), milliseconds);
    signal.addEventListener("abort", () => finish(reject, new Error("it was left")), { once: true });
    watchers.add(watcher);
  });
}

function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); reject(new Error("it was left")); }, { once: true });
  });
}

/** End what the lesson has opened, the last first. */
async function end(opened) {
  while (opened.length) {
    const number = opened.pop();
    // Somebody may have ended it already.
    if (number) await ask("end", { number }).catch(() => {});
  }
}
