// Compares instruction counts with those in bench/counts.json. Pure.

/**
 * @typedef {Record<string, number>} Counts instructions by case
 * @typedef {Record<string, string | undefined>} Conditions
 * @typedef {{ name: string, kept?: number, found?: number, change?: number, problem?: string }} Row
 */

// Tolerated share of change: a smaller one is noise of the hash seed, a larger one a change of the code.
export const MOST_OFF = 0.02;

const AGAIN = "npm run counts -- --write";

/**
 * What makes counts differ though the code is the same.
 * @type {Record<string, string>}
 */
const CONDITIONS = { rustc: "Rust", host: "the machine", libc: "the C library" };

/**
 * Returns the instructions of one run from callgrind's file about `runs` runs.
 * @param {string} text
 * @param {number} runs
 */
export function instructions(text, runs) {
  const total = Number(/^totals: (\d+)$/m.exec(text)?.[1] ?? 0);
  if (total === 0) throw new Error("valgrind counted nothing");
  return Math.round(total / runs);
}

/** @param {number[]} numbers */
export function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/**
 * Returns why counts made under these conditions cannot be compared with those kept, or undefined.
 * @param {Conditions | undefined} kept
 * @param {Conditions} here
 */
export function whyNotComparable(kept, here) {
  const other = Object.keys(CONDITIONS).find((name) => kept?.[name] !== here[name]);
  if (other === undefined) return undefined;
  return `${CONDITIONS[other]} is ${here[other]}, and the counts were taken with ${kept?.[other]}`;
}

/**
 * Returns one row for each case of either side.
 * @param {Counts} kept
 * @param {Counts} found
 * @returns {Row[]}
 */
export function compare(kept, found) {
  const names = [...Object.keys(found), ...Object.keys(kept).filter((name) => !Object.hasOwn(found, name))];
  return names.map((name) => {
    /** @type {Row} */
    const row = { name, kept: kept[name], found: found[name] };
    if (row.found !== undefined && row.kept !== undefined) row.change = row.found / row.kept - 1;
    return { ...row, problem: problemOf(row) };
  });
}

/** @param {Row} row */
function problemOf({ name, kept, found, change = 0 }) {
  if (found === undefined) return `${name} is in bench/counts.json, but is no longer a case; run: ${AGAIN}`;
  if (kept === undefined)
    return `${name} takes ${number(found)} instructions, and is not in bench/counts.json yet; run: ${AGAIN}`;
  if (Math.abs(found - kept) <= kept * MOST_OFF) return undefined;
  const takes = `${name} takes ${number(found)} instructions, and bench/counts.json has ${number(kept)} (${percent(change)})`;
  if (change < 0) return `${takes}; keep the gain: ${AGAIN}`;
  return `${takes}; fix the cause or, if the change is worth its cost, run: ${AGAIN}`;
}

/** @param {Row[]} rows */
export function render(rows) {
  const cells = rows.map(({ name, kept, found, change }) => [
    name,
    found === undefined ? "–" : number(found),
    kept === undefined ? "–" : number(kept),
    change === undefined ? "" : percent(change),
  ]);
  const table = [["case", "instructions", "kept", "change"], ...cells];
  const widths = table[0].map((_, column) => Math.max(...table.map((row) => row[column].length)));
  return table
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** @param {number} value */
const number = (value) => value.toLocaleString("en-US");
/** @param {number} share */
const percent = (share) => `${share < 0 ? "−" : "+"}${Math.abs(share * 100).toFixed(1)} %`;
