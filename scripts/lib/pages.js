// Replaces the generated part of a page.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ScriptError } from "../../cli/lib/errors.js";
import { ROOT } from "./paths.js";

const END = "<!-- end -->";

/**
 * Returns a page of the checkout with another text between the markers of the command that generates it, with its flags
 * if it generates several parts.
 * @param {string} page
 * @param {string} command
 * @param {string} text
 * @param {string} [flags]
 */
export function insertInto(page, command, text, flags = "") {
  const begin = `<!-- npm run ${[command, "--", flags, "--write"].filter(Boolean).join(" ")} -->`;
  const [head, rest] = readFileSync(join(ROOT, page), "utf8").split(begin);
  const after = rest?.split(END)[1];
  if (after === undefined) throw new ScriptError(`${page} must contain the lines ${begin} and ${END}.`);
  return `${head}${begin}\n\n${text}\n\n${END}${after}`;
}

/**
 * Writes the page that `insertInto` returns.
 * @param {string} page
 * @param {string} command
 * @param {string} text
 * @param {string} [flags]
 */
export const updatePage = (page, command, text, flags) =>
  writeFileSync(join(ROOT, page), insertInto(page, command, text, flags));
