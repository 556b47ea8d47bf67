// The module of the operators' page: built only when its sources change, with the texts of docs/errors.md.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";

import { buildPage, pageModule, reasonsIn } from "../../scripts/lib/page-build.js";
import { ROOT } from "../../scripts/lib/paths.js";

// Bytes of the page, gzipped: what a phone loads in a second.
const PAGE_BYTES = 25 * 1024;

test("the page has each code of docs/errors.md, and loads nothing", () => {
  const { page } = buildPage();
  const reasons = reasonsIn(readFileSync(join(ROOT, "docs", "errors.md"), "utf8"));
  assert.ok(Object.keys(reasons).length > 80);
  for (const code of Object.keys(reasons)) assert.ok(page.includes(code), code);
  assert.doesNotMatch(page, /(?:src|href)="(?!#|data:)/);
  const bytes = gzipSync(page).length;
  assert.ok(bytes < PAGE_BYTES, `${bytes} bytes`);
});

test("a reason is the text below its code, without links", () => {
  const text = "# Errors\n\n## A\n\n### one_code\n\n401. See [here](there.md):\n`x`.\n\n## B\n\n### other\n\nText.\n";
  assert.deepEqual(reasonsIn(text), { one_code: "401. See here: `x`.", other: "Text." });
  assert.throws(() => reasonsIn("# Errors"), /unexpected form/);
});

test("the module is written only when a source has changed", () => {
  const module = pageModule(undefined);
  assert.match(module, /^\/\/ [0-9a-f]{64}\nexport const page = "<!doctype html>/);
  assert.equal(pageModule(module), undefined);
  assert.equal(pageModule(`${"// "}${"0".repeat(64)}\n`), module);
});
