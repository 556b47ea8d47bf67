// docs/errors.md has the codes of the services, and no others. (The gateway's are in tests/native/denials.rs.)

import { strict as assert } from "node:assert";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";

const documented = readFileSync(join(ROOT, "docs", "errors.md"), "utf8");

// The sources of a crate, as one text.
function sources(crate) {
  const folder = join(ROOT, crate, "src");
  const files = readdirSync(folder, { recursive: true }).filter((file) => file.endsWith(".rs"));
  return files.map((file) => readFileSync(join(folder, file), "utf8")).join("\n");
}

// The codes of `ApiError`: each is an argument of a constructor, before the text of the answer.
function codesOf(source) {
  const constructed = /\b(?:ApiError|Self)::(?!new\b)\w+\(\s*"([a-z]+(?:_[a-z]+)*)",/g;
  const inConstructor = /\bSelf::new\(\s*[\w:]+,\s*"\w+",\s*"(\w+)"/g;
  return [constructed, inConstructor].flatMap((pattern) => [...source.matchAll(pattern)].map(([, code]) => code));
}

test("each code of the services is documented", () => {
  const codes = new Set(codesOf(sources("origin")));
  assert.ok(codes.size > 40, `${codes.size} found`);
  const entries = [...documented.matchAll(/^### (\w+)$|`(\w+)`/gm)].map(([, heading, listed]) => heading ?? listed);
  assert.deepEqual(
    [...codes].filter((code) => !entries.includes(code)),
    [],
  );
});

test("each documented code of the services exists", () => {
  const code = sources("origin") + sources("client");
  const [, list] = documented.split("## Services");
  // The codes of a line are before its colon.
  const codes = list
    .split("\n")
    .flatMap((line) => [...line.split(":")[0].matchAll(/`(\w+)`/g)].map(([, name]) => name));
  assert.ok(codes.length > 40, `${codes.length} found`);
  assert.deepEqual(
    codes.filter((name) => !code.includes(`"${name}"`)),
    [],
  );
});
