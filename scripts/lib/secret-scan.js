// The last look at everything that a test run logged: no token, no password, no
// secret may be in it. Says where one is, never what it is.

import { existsSync, readFileSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";

// Three base64url parts, the first of which begins like a JSON object.
const TOKEN = /eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*/;

export function listFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((file) => statSync(file).isFile())
    .sort();
}

// Gives a list of findings: { file, line, what }.
export function findSecrets(files, secrets) {
  const known = [...new Set(secrets)].filter((secret) => secret !== "");
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

export function readSecrets(file) {
  return existsSync(file)
    ? readFileSync(file, "utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
}
