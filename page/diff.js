// The difference of two policies, by lines of their JSON with sorted members.

// Lines of each side that are compared one by one. Above, the difference is shown as whole blocks.
const COMPARED = 3_000;

// Unchanged lines around a change.
const CONTEXT = 3;

/** @param {any} value @returns {any} */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name])]),
  );
}

/**
 * JSON of which a short object or list is one line.
 * @param {any} value
 * @param {string} indent
 * @returns {string}
 */
function print(value, indent = "") {
  const flat = JSON.stringify(value);
  if (value === null || typeof value !== "object" || flat.length + indent.length <= 64) return flat;
  const inner = `${indent}  `;
  const parts = Array.isArray(value)
    ? value.map((each) => inner + print(each, inner))
    : Object.entries(value).map(([name, each]) => `${inner}${JSON.stringify(name)}: ${print(each, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return `${open}\n${parts.join(",\n")}\n${indent}${close}`;
}

/**
 * @param {any} policy
 * @param {number} [width] of a line up to which an object or list is not broken; 0 breaks the outermost one
 */
export const textOf = (policy, width = 64) => {
  const value = sorted(policy);
  if (width > 0) return print(value);
  const members = Object.entries(value).map(([name, each]) => `  ${JSON.stringify(name)}: ${print(each, "  ")}`);
  return `{\n${members.join(",\n")}\n}`;
};

/**
 * @typedef {{ kind: "same" | "added" | "removed" | "skipped", text: string }} Row
 * @param {any} before
 * @param {any} after
 * @returns {Row[]}
 */
export function diff(before, after) {
  const rows = compare(textOf(before).split("\n"), textOf(after).split("\n"));
  const isNear = rows.map((_, index) =>
    rows.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some(({ kind }) => kind !== "same"),
  );
  /** @type {Row[]} */
  const shown = [];
  let skipped = 0;
  rows.forEach((row, index) => {
    if (!isNear[index]) skipped += 1;
    if (skipped > 0 && (isNear[index] || index === rows.length - 1)) {
      shown.push({ kind: "skipped", text: `${skipped} unchanged lines` });
      skipped = 0;
    }
    if (isNear[index]) shown.push(row);
  });
  return shown;
}

/**
 * @param {string[]} before
 * @param {string[]} after
 * @returns {Row[]}
 */
function compare(before, after) {
  /** @param {Row["kind"]} kind */
  const all = (kind) => (/** @type {string} */ text) => ({ kind, text });
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  while (
    end < Math.min(before.length, after.length) - start &&
    before[before.length - 1 - end] === after[after.length - 1 - end]
  )
    end += 1;
  const [a, b] = [before.slice(start, before.length - end), after.slice(start, after.length - end)];
  const middle =
    a.length > COMPARED || b.length > COMPARED ? [...a.map(all("removed")), ...b.map(all("added"))] : longest(a, b);
  return [...before.slice(0, start).map(all("same")), ...middle, ...before.slice(before.length - end).map(all("same"))];
}

/**
 * By the longest common subsequence.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {Row[]}
 */
function longest(a, b) {
  const width = b.length + 1;
  const lengths = new Uint16Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1)
    for (let j = b.length - 1; j >= 0; j -= 1)
      lengths[i * width + j] =
        a[i] === b[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  /** @type {Row[]} */
  const rows = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      rows.push({ kind: "same", text: a[i] });
      i += 1;
      j += 1;
    } else if (i < a.length && (j === b.length || lengths[(i + 1) * width + j] >= lengths[i * width + j + 1])) {
      rows.push({ kind: "removed", text: a[i] });
      i += 1;
    } else {
      rows.push({ kind: "added", text: b[j] });
      j += 1;
    }
  }
  return rows;
}
