// Elements, without a parser of HTML: text is never markup.

const SVG = "http://www.w3.org/2000/svg";

/** @typedef {Node | string | number | null | undefined | false} Child */

/**
 * @param {Element} element
 * @param {Record<string, any>} attributes
 */
function fill(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
const append = (element, children) =>
  element.append(...children.filter((child) => child || child === 0).map((child) => /** @type {any} */ (child)));

/**
 * Makes an element. Attributes whose names begin with `on` are listeners.
 * @param {string} tag with classes: `div.card`
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 */
export function h(tag, attributes = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length > 0) element.className = classes.join(" ");
  fill(element, attributes);
  append(element, children);
  return element;
}

/**
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...Child} children
 */
export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  fill(element, attributes);
  append(element, children);
  return element;
}

/**
 * @param {string} id
 * @returns {HTMLElement}
 */
export function byId(id) {
  const element = document.getElementById(id);
  if (element === null) throw new Error(`the page has no ${id}`);
  return element;
}

/** @type {WeakMap<Element, string>} */
const shown = new WeakMap();

/**
 * Shows `make()` in an element, unless it shows the same data already: what does not change keeps its focus and its
 * selection.
 * @param {Element} element
 * @param {unknown} data
 * @param {() => Child | Child[]} make
 */
export function show(element, data, make) {
  const text = JSON.stringify(data) ?? "";
  if (shown.get(element) === text) return;
  shown.set(element, text);
  element.replaceChildren();
  append(element, [make()].flat());
}

/**
 * Returns a text with `code` between backticks as elements.
 * @param {string} text
 */
export const marked = (text) => text.split("`").map((part, index) => (index % 2 === 1 ? h("code", {}, part) : part));
