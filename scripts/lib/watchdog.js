// Ends process groups whose keeper vanished. Reads `+pid` and `-pid` lines from a
// pipe that the keeper holds; when the pipe closes, whatever is still listed is
// asked to end, and killed if it does not.

const TERMINATE_MS = 5_000;
const POLL_MS = 50;

// A terminal's Ctrl-C and a closing window are the keeper's to answer.
for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(name, () => {});

const groups = new Set();
let rest = "";

process.stdin.setEncoding("utf8");
process.stdin.on("data", (text) => {
  const lines = (rest + text).split("\n");
  rest = lines.pop();
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

function signal(pid, name) {
  try {
    process.kill(-pid, name);
    return true;
  } catch {
    return false;
  }
}
