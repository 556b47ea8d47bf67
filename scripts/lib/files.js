// Reads files that may be missing and JSON that may be malformed, and replaces the generated part of a page.

import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ScriptError } from "./errors.js";
import { ROOT } from "./paths.js";

/**
 * Returns the text of a file, or undefined if there is none.
 * @param {string} file
 */
export const readIfThere = (file) => (existsSync(file) ? readFileSync(file, "utf8") : undefined);

/**
 * Returns the beginning of a regular file, or undefined.
 * @param {string} file
 * @param {number} bytes
 */
export function readBeginning(file, bytes) {
  let opened;
  try {
    // To open a named pipe would wait for its writer.
    opened = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(opened);
    if (!stat.isFile()) return undefined;
    const buffer = Buffer.alloc(Math.min(bytes, stat.size));
    return buffer.subarray(0, readSync(opened, buffer, 0, buffer.length, 0));
  } catch {
    return undefined;
  } finally {
    if (opened !== undefined) closeSync(opened);
  }
}

/**
 * Returns the value of a JSON text, or undefined if it is none.
 * @param {string} text
 * @returns {any}
 */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

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
