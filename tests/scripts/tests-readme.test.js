// The files and tests that tests/README.md names exist.

import { strict as assert } from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";

const TESTS = join(ROOT, "tests");
// The tokens that this file makes, with their names.
const CASES = "tests/vectors/cases.js";

const readme = readFileSync(join(TESTS, "README.md"), "utf8");

// The rows of the table of faults: a file's line is followed by a line for each test. A row without
// numbers has those of the row above.
function readFaults() {
  const rows = [];
  let file;
  let faults;
  for (const line of readme.match(/^```text\n([\s\S]*?)\n```$/m)[1].split("\n")) {
    const row = /^ {2}(?:(\S+)| +) (.+)$/.exec(line);
    if (row === null) {
      file = line;
      faults = undefined;
    } else {
      faults = row[1]?.split(",") ?? faults;
      rows.push({ file, faults, name: row[2] });
    }
  }
  return rows;
}

// Rust's tests are named by their functions, others by a title in which "…" stands for any text.
function hasTest(file, name) {
  const source = readFileSync(join(ROOT, file), "utf8");
  if (name === "all") return true;
  if (file.endsWith(".rs")) return source.includes(`fn ${name}(`);
  if (file === CASES) {
    const { cases } = JSON.parse(readFileSync(join(TESTS, "vectors", "tokens.json"), "utf8"));
    return cases.some((one) => one.name === name);
  }
  const parts = name.split("…").map((part) => part.trim());
  return source.split("\n").some((line) => parts.every((part) => line.replaceAll("\\", "").includes(part)));
}

test("each file that tests/README.md names exists", () => {
  const files = [...readme.matchAll(/`((?:\.\.\/|\w+\/)[\w./-]+\.(?:rs|js|json))`/g)].map(([, file]) =>
    join(TESTS, file),
  );
  assert.ok(files.length > 30);
  files.push(...readFaults().map(({ file }) => join(ROOT, file)));
  assert.deepEqual(
    files.filter((file) => !existsSync(file)),
    [],
  );
});

test("each test of the table of faults exists in its file", () => {
  const rows = readFaults();
  assert.ok(rows.length > 250);
  assert.deepEqual(
    rows.filter(({ file, name }) => !hasTest(file, name)).map(({ file, name }) => `${file}: ${name}`),
    [],
  );
});

test("the table has each of the faults 1 to 37, and each has its subject", () => {
  const key = readme.match(/^Subjects: ([\s\S]*?)\.$/m)[1].split(/,\s/);
  assert.deepEqual(
    key.map((subject) => /^(\d+)\s\w/.exec(subject)?.[1]),
    Array.from({ length: 37 }, (_, index) => String(index + 1)),
  );
  const numbers = new Set();
  for (const { faults, name } of readFaults())
    for (const fault of faults) {
      assert.match(fault, /^\d+s?[aop]?$/, name);
      numbers.add(Number.parseInt(fault, 10));
    }
  const missing = Array.from({ length: 37 }, (_, index) => index + 1).filter((number) => !numbers.has(number));
  assert.deepEqual(missing, []);
});
