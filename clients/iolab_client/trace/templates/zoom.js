// Zoom and pan in time, and the call under the pointer. Everything that stands for a time says which: data-a to data-b.
"use strict";
(() => {
  const figure = document.querySelector("figure");
  const svg = figure.querySelector("svg");
  const said = document.getElementById("said");
  const shown = document.getElementById("window");
  const [left, right, begin, end] = ["left", "right", "begin", "end"].map((name) => Number(figure.dataset[name]));
  const LEAST_MS = 0.05, CHARACTER = 5.3, TICKS = 12;
  const initial = (right - left) / (end - begin);
  let from = begin, to = end;

  const elements = [...svg.querySelectorAll("[data-a]:not(.tick)")].map((element) => {
    const a = Number(element.dataset.a), b = Number(element.dataset.b);
    // Some are drawn wider than their time, to be seen at all.
    const drawn = Number(element.getAttribute("width") || 0);
    const least = drawn > (b - a) * initial + 0.1 ? drawn : 1;
    return { element, a, b, kind: element.tagName, least, needs: (element.textContent || "").length * CHARACTER + 4 };
  });
  const ticks = [...svg.querySelectorAll(".tick")];
  const [line, word] = [ticks.find((one) => one.tagName === "line"), ticks.find((one) => one.tagName === "text")];

  const place = (moment) => left + (moment - from) * (right - left) / (to - from);
  const bound = (x) => Math.min(Math.max(x, left), right);

  const draw = () => {
    for (const { element, a, b, kind, least, needs } of elements) {
      const first = place(a), last = place(b);
      let seen = last >= left && first <= right;
      if (kind === "rect") {
        element.setAttribute("x", bound(first));
        element.setAttribute("width", Math.max(bound(last) - bound(first), least));
      } else if (kind === "line") {
        seen = first >= left && last <= right;
        element.setAttribute("x1", first);
        element.setAttribute("x2", last);
      } else {
        seen = seen && bound(last) - bound(first) >= needs;
        element.setAttribute("x", bound(first) + 3);
      }
      element.setAttribute("display", seen ? "inline" : "none");
    }
    scale();
    shown.textContent = `${from.toFixed(1)} to ${to.toFixed(1)} ms`;
  };

  const scale = () => {
    svg.querySelectorAll(".tick").forEach((one) => one.remove());
    let step = 10 ** Math.ceil(Math.log10((to - from) / TICKS));
    for (const part of [5, 2]) if ((to - from) / (step / part) <= TICKS) { step /= part; break; }
    const anchor = svg.querySelector("rect.p");
    for (let number = Math.ceil(Math.max(from, 0) / step); number * step <= to; number++) {
      const x = place(number * step);
      const newWord = word.cloneNode(), newLine = line.cloneNode();
      newWord.textContent = `${+(number * step).toPrecision(8)} ms`;
      newWord.setAttribute("x", x + 2);
      newLine.setAttribute("x1", x);
      newLine.setAttribute("x2", x);
      anchor.after(newLine, newWord);
    }
  };

  let asked = 0;
  const look = (newFrom, newTo) => {
    const length = Math.min(Math.max(newTo - newFrom, LEAST_MS), end - begin);
    from = Math.min(Math.max(newFrom, begin), end - length);
    to = from + length;
    cancelAnimationFrame(asked);
    asked = requestAnimationFrame(draw);
  };
  const zoom = (factor, around = (from + to) / 2) =>
    look(around - (around - from) * factor, around + (to - around) * factor);
  const move = (share) => look(from + (to - from) * share, to + (to - from) * share);
  const moment = (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    return from + (bound(x) - left) * (to - from) / (right - left);
  };

  const doings = {
    in: () => zoom(0.5), out: () => zoom(2), left: () => move(-0.25), right: () => move(0.25), all: () => look(begin, end),
  };
  const keys = { "+": "in", "=": "in", "-": "out", ArrowLeft: "left", ArrowRight: "right", 0: "all" };
  document.querySelectorAll("[data-do]").forEach((button) => {
    button.addEventListener("click", doings[button.dataset.do]);
  });
  document.querySelector(".tools").hidden = false;
  figure.addEventListener("keydown", (event) => {
    const doing = doings[keys[event.key]];
    if (!doing || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    doing();
  });
  svg.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, moment(event));
  }, { passive: false });
  svg.addEventListener("dblclick", (event) => zoom(0.5, moment(event)));

  let held = null;
  svg.addEventListener("pointerdown", (event) => {
    held = { x: event.clientX, from, to };
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointerup", () => { held = null; });
  svg.addEventListener("pointercancel", () => { held = null; });
  svg.addEventListener("pointerleave", () => { said.hidden = true; });
  svg.addEventListener("pointermove", (event) => {
    if (held) {
      const points = svg.getBoundingClientRect().width * (right - left) / svg.viewBox.baseVal.width;
      const by = (held.x - event.clientX) * (held.to - held.from) / points;
      look(held.from + by, held.to + by);
      return;
    }
    const found = event.target.closest("[data-text]");
    said.hidden = !found;
    if (!found) return;
    const { a, b, text } = found.dataset;
    const lasts = b - a;
    said.textContent = `${Number(a).toFixed(2)} ms, ${lasts < 1 ? `${(lasts * 1000).toFixed(0)} µs` : `${lasts.toFixed(1)} ms`}: ${text}`;
    const width = said.offsetWidth, height = said.offsetHeight;
    said.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    said.style.top = `${event.clientY + 20 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 20}px`;
  });
  shown.textContent = `${from.toFixed(1)} to ${to.toFixed(1)} ms`;
})();
