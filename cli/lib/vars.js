// Files of variables and secrets, such as wrangler's `.dev.vars`: readable by their owner only.

import { chmodSync, linkSync, unlinkSync, writeFileSync } from "node:fs";

import { ScriptError, errorCode } from "./errors.js";
import { readIfThere } from "./files.js";

/** @typedef {Record<string, string>} Vars */

const OWNER_ONLY = 0o600;

/** @param {string} text */
export function parseVars(text) {
  /** @type {Vars} */
  const vars = {};
  for (const line of text.split("\n")) {
    const found = /^\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^#]*))/.exec(line);
    if (found !== null) vars[found[1]] = found[2] ?? found[3] ?? found[4].trim();
  }
  return vars;
}

/**
 * A key set is JSON, whose double quotes would end the value in Node's `--env-file`.
 * @param {string} value
 */
const quoted = (value) => (value.includes('"') ? `'${value}'` : `"${value}"`);

/**
 * Appends the variables that a file lacks.
 * @param {string} file
 * @param {Vars} vars
 * @param {string} title
 */
export function writeVars(file, vars, title) {
  const present = readIfThere(file);
  const known = parseVars(present ?? "");
  const missing = Object.entries(vars).filter(([name]) => !(name in known));
  if (present !== undefined) chmodSync(file, OWNER_ONLY);
  if (missing.length === 0) return;
  const added = missing.map(([name, value]) => `${name}=${quoted(value)}\n`).join("");
  const head =
    present === undefined ? `# ${title}\n` : present.endsWith("\n") || present === "" ? present : `${present}\n`;
  if (present === undefined) {
    // Written to another file and linked, so that of two concurrent starts one wins completely.
    const aside = `${file}.${process.pid}`;
    writeFileSync(aside, head + added, { mode: OWNER_ONLY, flag: "wx" });
    try {
      linkSync(aside, file);
    } catch (error) {
      if (errorCode(error) === "EEXIST") {
        throw new ScriptError(`Another process has just created ${file}; start again.`);
      }
      throw error;
    } finally {
      unlinkSync(aside);
    }
  } else {
    writeFileSync(file, head + added, { mode: OWNER_ONLY });
  }
}
