// Instruction counts: reading callgrind's files, when counts may be compared, and the messages about
// deviations.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { compare, instructions, median, render, whyNotComparable } from "../../scripts/lib/instruction-counts.js";
import { ROOT } from "../../scripts/lib/paths.js";

test("instructions are read from callgrind's totals", () => {
  const file = (total) => `# callgrind format\nevents: Ir\nsummary: 7\n\nfn=(1)\n0 ${total}\n\ntotals: ${total}\n`;
  for (const [text, runs, expected] of [
    [file(5000), 500, 10],
    [file(5260), 500, 11],
    [file(1), 1, 1],
  ]) {
    assert.equal(instructions(text, runs), expected);
  }
  for (const text of [file(0), "", "events: Ir\n"]) assert.throws(() => instructions(text, 500), /counted nothing/);
});

test("the median does not depend on the order", () => {
  for (const [numbers, expected] of [
    [[7], 7],
    [[9, 1, 5], 5],
    [[100, 20, 3], 20],
  ]) {
    assert.equal(median(numbers), expected);
  }
});

test("counts of another compiler, machine or C library are not compared", () => {
  const here = { rustc: "rustc 1.95.0", host: "x86_64-unknown-linux-gnu", libc: "glibc 2.36" };
  for (const [kept, expected] of [
    [here, undefined],
    [{ ...here, rustc: "rustc 1.94.0" }, /^Rust is rustc 1\.95\.0, and .* with rustc 1\.94\.0$/],
    [{ ...here, host: "aarch64-unknown-linux-gnu" }, /^the machine is x86_64.* with aarch64/],
    [{ ...here, libc: "glibc 2.41" }, /^the C library is glibc 2\.36.* with glibc 2\.41$/],
    [undefined, /^Rust is /],
  ]) {
    const why = whyNotComparable(kept, here);
    if (expected === undefined) assert.equal(why, undefined);
    else assert.match(why, expected);
  }
});

test("a case may deviate by 2 % and no more", () => {
  for (const [kept, found, expected] of [
    [10_000, 10_000, undefined],
    [10_000, 10_200, undefined],
    [10_000, 9_800, undefined],
    [10_000, 10_201, /^parse takes 10,201 instructions, and .* 10,000 \(\+2\.0 %\); fix .* --write$/],
    [10_000, 9_000, /^parse takes 9,000 instructions, and .* 10,000 \(−10\.0 %\); keep .* --write$/],
    [undefined, 9_000, /^parse takes 9,000 instructions, and is not in bench\/counts\.json yet; .* --write$/],
    [10_000, undefined, /^parse .* no longer a case; .* --write$/],
  ]) {
    const of = (value) => (value === undefined ? {} : { parse: value });
    const [{ problem }] = compare(of(kept), of(found));
    if (expected === undefined) assert.equal(problem, undefined, `${kept} ${found}`);
    else assert.match(problem, expected);
  }
});

test("a table shows every case of both sides", () => {
  const rows = compare({ parse: 1000, gone: 5 }, { parse: 1010, fresh: 20_000 });
  assert.equal(
    render(rows),
    [
      "case   instructions   kept  change",
      "parse         1,010  1,000  +1.0 %",
      "fresh        20,000      –",
      "gone              –      5",
    ].join("\n"),
  );
});

test("the kept counts name the conditions of their measurement", () => {
  const kept = JSON.parse(readFileSync(join(ROOT, "bench", "counts.json"), "utf8"));
  assert.deepEqual(Object.keys(kept.taken_with), ["rustc", "host", "libc"]);
  assert.ok(Object.values(kept.instructions).every((count) => Number.isInteger(count) && count > 0));
});
