// Small charts as SVG. Each has its newest values in words, for readers who do not see it.

import { h, svg } from "./dom.js";
import { time } from "./format.js";

/**
 * @typedef {{ name: string, color: string, values: (number | undefined)[] }} Line
 * @typedef {object} Chart
 * @property {string} title
 * @property {number[]} times
 * @property {Line[]} lines
 * @property {boolean} [stacked]
 * @property {(value: number) => string} format
 */

const [WIDTH, HEIGHT] = [600, 170];

/** The lowest round number of at least `value`. @param {number} value */
function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= value - 1e-9) ?? value;
}

/**
 * @param {Chart} chart
 * @returns {HTMLElement}
 */
export function chart({ title, times, lines, stacked = false, format }) {
  const drawn = stacked ? stack(lines) : lines.map((line) => ({ ...line, tops: line.values }));
  const top = roundUp(Math.max(0, ...drawn.flatMap(({ tops }) => tops.map((value) => value ?? 0))));
  const hasLines = times.length > 1;
  const [first, last] = [times[0] ?? 0, times.at(-1) ?? 1];
  /** @param {number} at */
  const x = (at) => ((at - first) / (last - first || 1)) * WIDTH;
  /** @param {number} value */
  const y = (value) => HEIGHT - (value / top) * HEIGHT;
  const newest = lines.map(({ name, values }) => `${name} ${format(values.at(-1) ?? 0)}`).join(", ");
  const readout = h("span.readout");
  const cursor = svg("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const picture = svg(
    "svg",
    {
      viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
      preserveAspectRatio: "none",
      role: "img",
      "aria-label": `${title}. ${times.length === 0 ? "No data yet" : `Now: ${newest}`}`,
    },
    ...(hasLines ? [0.5, 1] : []).map((part) =>
      svg("line", { class: "grid", x1: 0, x2: WIDTH, y1: y(top * part), y2: y(top * part) }),
    ),
    ...(hasLines ? drawn : []).map((line) => shape(line, times, x, y, stacked)),
    svg("line", { class: "axis", x1: 0, x2: WIDTH, y1: HEIGHT, y2: HEIGHT }),
    cursor,
  );
  const values = lines.map(() => h("span.value"));
  /** @param {number} index */
  const point = (index) => {
    lines.forEach((line, at) => {
      const value = line.values.at(index);
      values[at].textContent = value === undefined ? "–" : format(value);
    });
    readout.textContent = index === -1 ? "" : time(times[index]);
  };
  point(-1);
  picture.addEventListener("pointermove", (/** @type {any} */ event) => {
    if (times.length === 0) return;
    const { left, width } = picture.getBoundingClientRect();
    const at = first + ((event.clientX - left) / width) * (last - first);
    const index = times.reduce((best, each, i) => (Math.abs(each - at) < Math.abs(times[best] - at) ? i : best), 0);
    for (const side of ["x1", "x2"]) cursor.setAttribute(side, String(x(times[index])));
    cursor.setAttribute("visibility", "visible");
    point(index);
  });
  picture.addEventListener("pointerleave", () => {
    cursor.setAttribute("visibility", "hidden");
    point(-1);
  });
  return h(
    "figure.chart",
    {},
    h(
      "figcaption",
      {},
      h("h3", {}, title),
      h(
        "ul.legend",
        {},
        ...lines.map(({ name, color }, at) => h("li", {}, h(`i.swatch.${color}`), `${name} `, values[at])),
      ),
    ),
    h(
      "div.plot",
      {},
      h("span.tick.high", { "aria-hidden": true }, format(top)),
      h("span.tick.middle", { "aria-hidden": true }, format(top / 2)),
      picture,
      !hasLines && h("p.empty", {}, "The first points appear after two polls."),
    ),
    h(
      "div.times",
      { "aria-hidden": true },
      h("span", {}, hasLines ? time(first) : ""),
      readout,
      h("span", {}, hasLines ? time(last) : ""),
    ),
  );
}

/** @param {Line[]} lines */
function stack(lines) {
  /** @type {number[]} */
  let floor = [];
  return lines.map((line) => {
    const below = floor;
    const tops = line.values.map((value, index) => (value ?? 0) + (below[index] ?? 0));
    floor = tops;
    return { ...line, tops, below };
  });
}

/**
 * @param {Line & { tops: (number | undefined)[], below?: number[] }} line
 * @param {number[]} times
 * @param {(at: number) => number} x
 * @param {(value: number) => number} y
 * @param {boolean} stacked
 */
function shape({ color, tops, below = [] }, times, x, y, stacked) {
  /** @param {number} index @param {number} value */
  const spot = (index, value) => `${x(times[index]).toFixed(1)},${y(value).toFixed(1)}`;
  if (stacked) {
    const upper = tops.map((value, index) => spot(index, value ?? 0));
    const lower = tops.map((_, index) => spot(index, below[index] ?? 0)).reverse();
    return svg("polygon", { class: `area ${color}`, points: [...upper, ...lower].join(" ") });
  }
  const known = tops.flatMap((value, index) => (value === undefined ? [] : [spot(index, value)]));
  // A single point is drawn as a dot.
  const spots = known.length === 1 ? [...known, ...known] : known;
  return svg("polyline", { class: `stroke ${color}`, points: spots.join(" ") });
}

/**
 * A line without axes for a tile; its number is the tile's.
 * @param {(number | undefined)[]} values
 * @param {string} color
 */
export function spark(values, color) {
  const top = Math.max(1e-9, ...values.map((value) => value ?? 0));
  const step = 100 / Math.max(1, values.length - 1);
  const spots = values.map(
    (value, index) => `${(index * step).toFixed(1)},${(27 - ((value ?? 0) / top) * 24).toFixed(1)}`,
  );
  return svg(
    "svg",
    { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none", "aria-hidden": "true" },
    values.length > 1 && svg("polygon", { class: `area ${color}`, points: `0,28 ${spots.join(" ")} 100,28` }),
    values.length > 1 && svg("polyline", { class: `stroke ${color}`, points: spots.join(" ") }),
  );
}

/**
 * Bars with names and numbers, the longest first.
 * @param {[string, number][]} rows
 * @param {(value: number) => string} format
 * @param {(name: string) => import("./dom.js").Child} [label]
 */
export function bars(rows, format, label = (name) => name) {
  const top = Math.max(1, ...rows.map(([, value]) => value));
  return h(
    "ul.bars",
    {},
    ...rows.map(([name, value]) =>
      h(
        "li",
        {},
        h("span.name", {}, label(name)),
        h("span.number", {}, format(value)),
        svg(
          "svg",
          { class: "bar", viewBox: "0 0 100 4", preserveAspectRatio: "none", "aria-hidden": "true" },
          svg("rect", { class: "track", width: 100, height: 4 }),
          svg("rect", { class: "fill", width: Math.max(0.5, (value / top) * 100), height: 4 }),
        ),
      ),
    ),
  );
}
