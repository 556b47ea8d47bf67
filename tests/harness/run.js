// One run of tests: the folder of its logs, and the secrets it used, so that a
// last look at all logs can say whether one of them got in. `npm test` names the
// folder in TEST_RUN_DIR; a suite that is run by itself makes one and removes it.

import { appendFileSync, createWriteStream, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const named = process.env.TEST_RUN_DIR;
export const RUN = named ?? mkdtempSync(join(tmpdir(), "portcullis-test-"));
mkdirSync(join(RUN, "logs"), { recursive: true });
if (named === undefined) process.on("exit", () => rmSync(RUN, { recursive: true, force: true }));

// Below this, a "secret" would be found by chance.
const SECRET_CHARS_MIN = 8;

// To be called with each password, token and key that a test makes or is given.
export function remember(secret) {
  if (typeof secret === "string" && secret.length >= SECRET_CHARS_MIN) {
    appendFileSync(join(RUN, "secrets"), `${secret}\n`, { mode: 0o600 });
  }
  return secret;
}

let count = 0;

export function logFile(name) {
  count += 1;
  return join(RUN, "logs", `${name}-${process.pid}-${count}.log`);
}

export function openLog(name) {
  return createWriteStream(logFile(name), { flags: "a" });
}

// A folder that is gone with the scope.
export function temporaryFolder(scope, name = "work") {
  const folder = mkdtempSync(join(tmpdir(), `portcullis-${name}-`));
  scope.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
