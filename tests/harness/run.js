// One run of tests: the directory of its logs, and the secrets it used, so that a final scan can find them
// in the logs. `npm test` names the directory in TEST_RUN_DIR; a suite that runs alone uses a temporary one.

import { appendFileSync, createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const named = process.env.TEST_RUN_DIR;
export const RUN = named ?? mkdtempSync(join(tmpdir(), "portcullis-test-"));
mkdirSync(join(RUN, "logs"), { recursive: true });
if (named === undefined) process.on("exit", () => rmSync(RUN, { recursive: true, force: true }));

// A shorter secret would be found in logs by chance.
const SECRET_CHARS_MIN = 8;

// Records a secret. Tests call it with each password, token and key that they create or receive.
export function remember(secret) {
  if (typeof secret === "string" && secret.length >= SECRET_CHARS_MIN) {
    appendFileSync(join(RUN, "secrets"), `${secret}\n`, { mode: 0o600 });
  }
  return secret;
}

// Returns the recorded secrets.
export function recorded() {
  return readFileSync(join(RUN, "secrets"), "utf8").split("\n");
}

let count = 0;

export function openLog(name) {
  count += 1;
  return createWriteStream(join(RUN, "logs", `${name}-${process.pid}-${count}.log`), { flags: "a" });
}

// Creates a directory that is removed at the end of the scope.
export function temporaryFolder(scope, name = "work") {
  const folder = mkdtempSync(join(tmpdir(), `portcullis-${name}-`));
  scope.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}
