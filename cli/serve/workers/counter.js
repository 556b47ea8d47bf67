// Counts requests by key in fixed windows.

// Keys that are counted at once, about 50 MB. Beyond it, the keys seen first are forgotten.
const MAX_KEYS = 200_000;

/** @typedef {{ limit: number, periodMs: number }} Limit */

/** @param {{ maxKeys?: number }} [options] */
export function createCounter({ maxKeys = MAX_KEYS } = {}) {
  /** @type {Map<string, { ends: number, count: number }>} */
  const windows = new Map();
  return {
    size: () => windows.size,
    /**
     * Counts a request and returns whether it is within the limit.
     * @param {string} key
     * @param {Limit} limit
     * @param {number} now milliseconds
     */
    isWithin(key, { limit, periodMs }, now) {
      let window = windows.get(key);
      if (window === undefined || window.ends <= now) {
        windows.delete(key);
        // A map keeps the order of insertion.
        if (windows.size >= maxKeys) windows.delete(windows.keys().next().value ?? "");
        window = { ends: (Math.floor(now / periodMs) + 1) * periodMs, count: 0 };
        windows.set(key, window);
      }
      window.count += 1;
      return window.count <= limit;
    },
  };
}
