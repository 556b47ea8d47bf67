// Searches the logs of a test run for tokens, passwords and secrets. Reports where one is, never its
// value.

import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

// Three base64url parts, the first of which starts like a JSON object.
const TOKEN = /eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*/;

/** @param {string} folder */
export function listFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).isFile())
    .sort();
}

/**
 * @param {string[]} files
 * @param {string[]} secrets
 * @returns {{ file: string, line: number, what: string }[]}
 */
export function findSecrets(files, secrets) {
  const known = [...new Set(secrets)].filter((secret) => secret !== "");
  /** @type {{ file: string, line: number, what: string }[]} */
  const findings = [];
  for (const file of files) {
    const lines = readFileSync(file, "latin1").split("\n");
    for (const [index, line] of lines.entries()) {
      if (TOKEN.test(line)) findings.push({ file, line: index + 1, what: "a token" });
      else if (known.some((secret) => line.includes(secret)))
        findings.push({ file, line: index + 1, what: "a password or secret" });
    }
  }
  return findings;
}
