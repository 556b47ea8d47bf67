// Tells whether the sources of a program have changed since it was compiled, without cargo.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { ROOT } from "./paths.js";

/**
 * Returns a digest of files and of all files in folders, named relative to the checkout.
 * @param {string[]} sources
 */
export function digestOf(sources) {
  const hash = createHash("sha256");
  for (const file of sources.flatMap(filesIn)) {
    hash.update(`${file}\0`);
    hash.update(readFileSync(join(ROOT, file)));
  }
  return hash.digest("hex");
}

/** @param {string} source */
function filesIn(source) {
  if (statSync(join(ROOT, source)).isFile()) return [source];
  return readdirSync(join(ROOT, source), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(?:rs|toml|js)$/.test(name))
    .sort()
    .map((name) => join(source, name));
}
