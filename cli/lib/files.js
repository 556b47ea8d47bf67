// Reads files that may be missing and JSON that may be malformed.

import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync, readSync } from "node:fs";

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
