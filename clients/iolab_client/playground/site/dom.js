// Elements made in code. Text is always text: nothing that a server or a person has said becomes markup.

export const byId = (id) => document.getElementById(id);

/** An element of that name; `attributes` are set as they are, functions become listeners; children are elements or text. */
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/** Set the text of an element, if it is another one: what does not change is not read out again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A number as people read it: 1,234; 12.3k; 4.5M. */
export function short(number) {
  if (number >= 1e6) return `${(number / 1e6).toFixed(1)}M`;
  if (number >= 1e4) return `${(number / 1e3).toFixed(1)}k`;
  return number >= 100 || Number.isInteger(number) ? Math.round(number).toLocaleString("en") : number.toFixed(1);
}

/** Bytes as people read them. */
export function bytes(number) {
  if (number >= 2 ** 20) return `${(number / 2 ** 20).toFixed(1)} MiB`;
  if (number >= 2 ** 10) return `${(number / 2 ** 10).toFixed(1)} KiB`;
  return `${number} bytes`;
}
