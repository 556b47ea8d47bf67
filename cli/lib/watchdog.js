// Ends process groups when the script that started them has gone. Reads lines `+pid` and `-pid` from
// a pipe that the script holds; when the pipe closes, the groups still listed are asked to end and
// then killed.

import { splitLines } from "./commands.js";
import { stopGroup } from "./processes.js";

const TERMINATE_MS = 5_000;

// The script itself handles Ctrl-C and a closed terminal.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => {});

/** @type {Set<number>} */
const groups = new Set();

splitLines(process.stdin, (line) => {
  const pid = Number(line.slice(1));
  if (!Number.isInteger(pid) || pid <= 1) return;
  if (line.startsWith("+")) groups.add(pid);
  else groups.delete(pid);
});
process.stdin.on("error", finish);
process.stdin.on("end", finish);

async function finish() {
  await Promise.all([...groups].map((pid) => stopGroup(pid, TERMINATE_MS)));
  process.exit(0);
}
