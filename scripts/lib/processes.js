// Child processes that never outlive us. Each gets a process group of its own, so
// that its children (wrangler starts workerd and esbuild) end with it. Ending is
// asked for first and enforced after a bound. Should this process be killed without
// a chance to tidy up, a watchdog that holds the other end of a pipe does it instead.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

import { splitLines } from "./cargo.js";

// Longer than the services take to finish requests under way.
export const STOP_MS = 12_000;
const POLL_MS = 25;

// Lines of a process that are shown when it ends badly.
const LAST_LINES = 25;

const WATCHDOG = fileURLToPath(new URL("watchdog.js", import.meta.url));

export function createProcesses() {
  const groups = new Set();
  let watchdog;

  const notifyWatchdog = (line) => {
    if (watchdog === undefined) {
      watchdog = spawn(process.execPath, [WATCHDOG], { stdio: ["pipe", "ignore", "ignore"], detached: true });
      watchdog.on("error", () => {});
      watchdog.stdin.on("error", () => {});
      watchdog.unref();
      watchdog.stdin.unref?.();
    }
    watchdog.stdin.write(`${line}\n`);
  };

  const processes = {
    // Takes charge of a child that was spawned with `detached: true`.
    adopt(child) {
      if (child.pid === undefined) return;
      groups.add(child.pid);
      notifyWatchdog(`+${child.pid}`);
      child.once("close", () => {
        // Grandchildren may be alive still; the group is given up when it is empty.
        if (!isAlive(child.pid)) processes.release(child.pid);
      });
    },

    release(pid) {
      if (groups.delete(pid)) notifyWatchdog(`-${pid}`);
    },

    // Starts a long-running process. `onLine` gets each line of its output but those
    // that match `omit`. `identity` may hold the uid and gid that it runs as.
    // Gives { name, pid, lastLines, ended, stop }; `ended` resolves with { code, signal }.
    start(name, command, args, { env, cwd, omit, identity = {}, onLine = () => {} }) {
      const child = spawn(command, args, { ...identity, env, cwd, stdio: ["ignore", "pipe", "pipe"], detached: true });
      processes.adopt(child);
      const lastLines = [];
      const keep = (line) => {
        const plain = stripVTControlCharacters(line).trimEnd();
        if (plain === "" || omit?.test(plain)) return;
        lastLines.push(plain);
        if (lastLines.length > LAST_LINES) lastLines.shift();
        onLine(plain);
      };
      splitLines(child.stdout, keep);
      splitLines(child.stderr, keep);
      const running = {
        name,
        pid: child.pid,
        lastLines,
        hasEnded: false,
        ended: new Promise((resolve) => {
          child.once("error", (error) => resolve({ code: null, signal: null, error }));
          // "exit", not "close": a grandchild may hold the output open for ever.
          child.once("exit", (code, signal) => resolve({ code, signal }));
        }).then((how) => {
          running.hasEnded = true;
          return how;
        }),
        stop: (bound) => stopGroup(child.pid, bound).then(() => processes.release(child.pid)),
      };
      return running;
    },

    // Ends every group: asks, waits, kills.
    async stopAll(bound = STOP_MS) {
      await Promise.all(
        [...groups].map(async (pid) => {
          await stopGroup(pid, bound);
          processes.release(pid);
        }),
      );
    },

    killAll() {
      for (const pid of groups) signalGroup(pid, "SIGKILL");
    },
  };
  return processes;
}

export async function stopGroup(pid, bound = STOP_MS) {
  if (pid === undefined) return;
  const end = Date.now() + bound;
  signalGroup(pid, "SIGTERM");
  while (isAlive(pid)) {
    if (Date.now() > end) signalGroup(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

export function isAlive(pid) {
  try {
    process.kill(-pid, 0);
    return true;
  } catch (error) {
    return error.code === "EPERM";
  }
}

function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // Gone already.
  }
}
