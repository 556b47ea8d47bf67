// The files and tests that tests/README.md names exist.

import { strict as assert } from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";

const TESTS = join(ROOT, "tests");
const SERVICES = join(ROOT, "origin", "tests");
// The table of tokens: the names of its rows, and the source with its sections.
const TOKENS = ["vectors/tokens.json", "vectors/cases.js"];

// A file and its tests after a colon: `file`: *one test*, *another*.
const NAMED = /(?:`([\w./-]+\.(?:rs|js))`|(\b[Tt]able)): ((?:\*[^*]+\*(?:, | and )?)+)/g;

const readme = readFileSync(join(TESTS, "README.md"), "utf8").replaceAll("\\_", "_");

// Folders of the files in the tables: names without a folder are tests of the services, those of the last
// table are sources of the services.
const FOLDERS = [TESTS, SERVICES, ROOT, join(ROOT, "origin", "src")];

function find(file) {
  return FOLDERS.map((folder) => join(folder, file)).find(existsSync);
}

// Names are written with blanks or, for Rust functions, with underscores.
const plain = (text) => text.replace(/[\s_]+/g, " ").replaceAll("\\", "");

test("each file that tests/README.md names is there", () => {
  const files = [...readme.matchAll(/`((?:\.\.\/|\w+\/)[\w./-]+\.(?:rs|js|md|toml|json))`/g)].map(([, file]) => file);
  assert.ok(files.length > 100);
  assert.deepEqual(
    files.filter((file) => find(file) === undefined),
    [],
  );
});

test("each test that tests/README.md names is in the file that it names", () => {
  const missing = [];
  let count = 0;
  for (const [, named, , tests] of readme.matchAll(NAMED)) {
    const files = named === undefined ? TOKENS : [named];
    const source = plain(files.map((file) => readFileSync(find(file), "utf8")).join("\n"));
    for (const [, name] of tests.matchAll(/\*([^*]+)\*/g)) {
      count += 1;
      const parts = plain(name)
        .split("…")
        .map((part) => part.trim());
      if (!parts.every((part) => source.includes(part))) missing.push(`${files[0]}: ${name}`);
    }
  }
  assert.ok(count > 200);
  assert.deepEqual(missing, []);
});
