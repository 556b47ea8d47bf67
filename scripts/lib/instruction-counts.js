// Instruction counts against those that are kept in bench/counts.json. Pure: texts and
// counts in, verdicts and texts out.

// A share: less is the noise of another hash seed, more is a change somebody made.
export const MOST_OFF = 0.02;

const AGAIN = "npm run counts -- --write";

// What makes counts differ though the code is the same.
const CONDITIONS = { rustc: "Rust", host: "the machine", libc: "the C library" };

// Instructions of one run, from callgrind's file of so many.
export function instructions(text, runs) {
  const total = Number(/^totals: (\d+)$/m.exec(text)?.[1] ?? 0);
  if (total === 0) throw new Error("valgrind counted nothing");
  return Math.round(total / runs);
}

export function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

// Why counts made under these conditions say nothing about those kept, or undefined.
export function whyNotComparable(kept, here) {
  const other = Object.keys(CONDITIONS).find((name) => kept?.[name] !== here[name]);
  if (other === undefined) return undefined;
  return `${CONDITIONS[other]} is ${here[other]}, and the counts were taken with ${kept?.[other]}`;
}

// One row for each case of either: { name, kept, found, change, problem }.
export function compare(kept, found) {
  const names = [...Object.keys(found), ...Object.keys(kept).filter((name) => !Object.hasOwn(found, name))];
  return names.map((name) => {
    const row = { name, kept: kept[name], found: found[name] };
    if (row.found !== undefined && row.kept !== undefined) row.change = row.found / row.kept - 1;
    return { ...row, problem: problemOf(row) };
  });
}

function problemOf({ name, kept, found, change }) {
  if (found === undefined) return `${name} is kept in bench/counts.json and is no case any more; run: ${AGAIN}`;
  if (kept === undefined) return `${name} takes ${number(found)} instructions and is not kept yet; run: ${AGAIN}`;
  if (Math.abs(found - kept) <= kept * MOST_OFF) return undefined;
  const takes = `${name} takes ${number(found)} instructions, and bench/counts.json has ${number(kept)} (${percent(change)})`;
  if (change < 0) return `${takes}; keep what was won: ${AGAIN}`;
  return `${takes}; mend what makes it dearer or, if it is worth its cost, run: ${AGAIN}`;
}

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

const number = (value) => value.toLocaleString("en-US");
const percent = (share) => `${share < 0 ? "−" : "+"}${Math.abs(share * 100).toFixed(1)} %`;
