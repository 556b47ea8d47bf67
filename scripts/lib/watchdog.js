// Ends process groups when the script that started them has gone. Reads lines `+pid` and `-pid` from
// a pipe that the script holds; when the pipe closes, the groups still listed are asked to end and
// then killed.

const TERMINATE_MS = 5_000;
const POLL_MS = 50;

// The script itself handles Ctrl-C and a closed terminal.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => {});

/** @type {Set<number>} */
const groups = new Set();
let rest = "";

process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop() ?? "";
  for (const line of lines) {
    const pid = Number(line.slice(1));
    if (!Number.isInteger(pid) || pid <= 1) continue;
    if (line.startsWith("+")) groups.add(pid);
    else groups.delete(pid);
  }
});
process.stdin.on("error", finish);
process.stdin.on("end", finish);

let finishing = false;

async function finish() {
  if (finishing) return;
  finishing = true;
  for (const pid of groups) signal(pid, "SIGTERM");
  const end = Date.now() + TERMINATE_MS;
  while ([...groups].some((pid) => signal(pid, 0)) && Date.now() < end) {
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  for (const pid of groups) signal(pid, "SIGKILL");
  process.exit(0);
}

/**
 * @param {number} pid
 * @param {NodeJS.Signals | 0} name
 */
function signal(pid, name) {
  try {
    process.kill(-pid, name);
    return true;
  } catch {
    return false;
  }
}
