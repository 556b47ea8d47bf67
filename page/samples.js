// The metrics of the last minutes: what /metrics (Prometheus text, version 0.0.4) said at each poll, and what happened
// in between.

// Polls that are kept: 15 minutes of one in 5 seconds.
const KEPT = 180;

// Milliseconds over which a rate is computed. Isolates report every 10 seconds, so a shorter time would show steps.
const WINDOW_MS = 15_000;

/**
 * @typedef {{ labels: Record<string, string>, value: number }} Point
 * @typedef {{ at: number, families: Map<string, Map<string, Point>> }} Sample
 */

/**
 * @param {string} text
 * @param {number} at
 * @returns {Sample}
 */
export function parse(text, at) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (found === null) continue;
    const [, family, inner = "", value] = found;
    const labels = Object.fromEntries(
      [...inner.matchAll(/([a-z_]+)="([^"]*)"/g)].map(([, name, text]) => [name, text]),
    );
    if (!families.has(family)) families.set(family, new Map());
    families.get(family).set(inner, { labels, value: Number(value) });
  }
  return { at, families };
}

/** @type {Sample[]} */
let samples = [];

/** @param {Sample} sample */
export const add = (sample) => {
  samples = [...samples, sample].slice(-KEPT);
};

export const forget = () => {
  samples = [];
};

export const newest = () => samples.at(-1);

/** Seconds from the first poll to the newest. */
export const span = () => (samples.length < 2 ? 0 : (samples[samples.length - 1].at - samples[0].at) / 1000);

/**
 * Returns the values of a family's series.
 * @param {string} family
 * @param {Sample} [sample]
 * @returns {Point[]}
 */
export const points = (family, sample = newest()) => [...(sample?.families.get(family)?.values() ?? [])];

/**
 * Returns how much each counter of a family has grown between two polls. A counter that has begun again counts from 0.
 * @param {string} family
 * @param {Sample} from
 * @param {Sample} to
 * @returns {Point[]}
 */
function growth(family, from, to) {
  const before = from.families.get(family);
  return [...(to.families.get(family) ?? [])].map(([key, { labels, value }]) => {
    const grown = value - (before?.get(key)?.value ?? 0);
    return { labels, value: grown < 0 ? value : grown };
  });
}

/**
 * Returns the growth of a family's counters in all kept polls.
 * @param {string} family
 */
export const grown = (family) => (samples.length < 2 ? [] : growth(family, samples[0], samples[samples.length - 1]));

/**
 * Computes something at each poll: `of` gets the growth of a family, and the seconds in which it grew.
 * @template T
 * @param {(grown: (family: string) => Point[], seconds: number) => T} of
 * @returns {{ at: number, value: T }[]}
 */
export function over(of) {
  return samples.slice(1).map((sample, index) => {
    let begin = index;
    while (begin > 0 && sample.at - samples[begin].at < WINDOW_MS) begin -= 1;
    const from = samples[begin];
    return { at: sample.at, value: of((family) => growth(family, from, sample), (sample.at - from.at) / 1000) };
  });
}

/** @param {Point[]} list */
export const total = (list) => list.reduce((sum, { value }) => sum + value, 0);

/**
 * Returns sums of points by a label, the largest first.
 * @param {Point[]} list
 * @param {string} label
 * @returns {[string, number][]}
 */
export function by(list, label) {
  const sums = new Map();
  for (const { labels, value } of list) sums.set(labels[label], (sums.get(labels[label]) ?? 0) + value);
  return [...sums].sort(([, a], [, b]) => b - a);
}

/**
 * Returns a quantile of a histogram in milliseconds, as Prometheus' `histogram_quantile` does; undefined without any.
 * @param {Point[]} buckets
 * @param {number} quantile
 */
export function quantileMs(buckets, quantile) {
  const counts = new Map();
  for (const { labels, value } of buckets) {
    const bound = labels.le === "+Inf" ? Infinity : Number(labels.le);
    counts.set(bound, (counts.get(bound) ?? 0) + value);
  }
  const sorted = [...counts].sort(([a], [b]) => a - b);
  const all = sorted.at(-1)?.[1] ?? 0;
  if (all === 0) return undefined;
  const wanted = quantile * all;
  let [below, before] = [0, 0];
  for (const [bound, sum] of sorted) {
    if (sum >= wanted) {
      if (bound === Infinity) return below * 1000;
      return (below + ((bound - below) * (wanted - before)) / (sum - before || 1)) * 1000;
    }
    [below, before] = [bound, sum];
  }
  return below * 1000;
}
