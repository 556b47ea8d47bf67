// Child processes that never outlive the script. Each has its own process group, so its children
// (wrangler starts workerd and esbuild) end with it. A group is first asked to end, and killed after
// a timeout. If this process is killed, the watchdog, which holds the other end of a pipe, does so.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { stripVTControlCharacters } from "node:util";

import { splitLines } from "./commands.js";

import { errorCode } from "./errors.js";

/**
 * @import { ChildProcess, ChildProcessByStdio } from "node:child_process"
 * @import { Writable } from "node:stream"
 * @typedef {ReturnType<typeof createProcesses>} Processes
 * @typedef {{ code: number | null, signal: NodeJS.Signals | null, error?: NodeJS.ErrnoException }} Ended
 * @typedef {object} Running
 * @property {string} name
 * @property {number | undefined} pid
 * @property {string[]} lastLines
 * @property {boolean} hasEnded
 * @property {Promise<Ended>} ended
 * @property {(bound?: number) => Promise<void>} stop
 * @typedef {object} StartOptions
 * @property {NodeJS.ProcessEnv} [env]
 * @property {string} [cwd]
 * @property {RegExp} [omit] lines that are dropped
 * @property {{ uid?: number, gid?: number }} [identity] user and group that the process runs as
 * @property {(line: string) => void} [onLine]
 */

// Longer than the services need to finish the requests in progress.
const STOP_MS = 12_000;
const POLL_MS = 25;

// Number of output lines that are shown when a process fails.
const LAST_LINES = 25;

const WATCHDOG = fileURLToPath(new URL("watchdog.js", import.meta.url));

export function createProcesses() {
  /** @type {Set<number>} */
  const groups = new Set();
  /** @type {ChildProcessByStdio<Writable, null, null> | undefined} */
  let watchdog;

  /** @param {string} line */
  const notifyWatchdog = (line) => {
    if (watchdog === undefined) {
      watchdog = spawn(process.execPath, [WATCHDOG], { stdio: ["pipe", "ignore", "ignore"], detached: true });
      watchdog.on("error", () => {});
      watchdog.stdin.on("error", () => {});
      watchdog.unref();
      // The pipe must not keep this process alive.
      /** @type {any} */ (watchdog.stdin).unref?.();
    }
    watchdog.stdin.write(`${line}\n`);
  };

  const processes = {
    /**
     * Takes charge of a child that was spawned with `detached: true`.
     * @param {ChildProcess} child
     */
    adopt(child) {
      const { pid } = child;
      if (pid === undefined) return;
      groups.add(pid);
      notifyWatchdog(`+${pid}`);
      child.once("close", () => {
        // Grandchildren may still be alive; the group is released when it is empty.
        if (!isAlive(pid)) processes.release(pid);
      });
    },

    /** @param {number} pid */
    release(pid) {
      if (groups.delete(pid)) notifyWatchdog(`-${pid}`);
    },

    /**
     * Starts a long-running process.
     * @param {string} name
     * @param {string} command
     * @param {string[]} args
     * @param {StartOptions} options
     * @returns {Running}
     */
    start(name, command, args, { env, cwd, omit, identity = {}, onLine = () => {} }) {
      const child = spawn(command, args, { ...identity, env, cwd, stdio: ["ignore", "pipe", "pipe"], detached: true });
      processes.adopt(child);
      /** @type {string[]} */
      const lastLines = [];
      /** @param {string} line */
      const keep = (line) => {
        const plain = stripVTControlCharacters(line).trimEnd();
        if (plain === "" || omit?.test(plain)) return;
        lastLines.push(plain);
        if (lastLines.length > LAST_LINES) lastLines.shift();
        onLine(plain);
      };
      splitLines(child.stdout, keep);
      splitLines(child.stderr, keep);
      /** @type {Running} */
      const running = {
        name,
        pid: child.pid,
        lastLines,
        hasEnded: false,
        ended: new Promise((resolve) => {
          child.once("error", (error) => resolve({ code: null, signal: null, error }));
          // "exit", not "close": a grandchild may keep the output open.
          child.once("exit", (code, signal) => resolve({ code, signal }));
        }).then((how) => {
          running.hasEnded = true;
          return how;
        }),
        async stop(bound) {
          if (child.pid === undefined) return;
          await stopGroup(child.pid, bound);
          processes.release(child.pid);
        },
      };
      return running;
    },

    /** Ends every group, and kills those that have not ended after `bound` milliseconds. */
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

/**
 * @param {number} pid
 * @param {number} [bound]
 */
export async function stopGroup(pid, bound = STOP_MS) {
  const end = Date.now() + bound;
  signalGroup(pid, "SIGTERM");
  while (isAlive(pid)) {
    if (Date.now() > end) signalGroup(pid, "SIGKILL");
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** @param {number} pid */
export function isAlive(pid) {
  try {
    process.kill(-pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}

/**
 * @param {number} pid
 * @param {NodeJS.Signals} signal
 */
function signalGroup(pid, signal) {
  try {
    process.kill(-pid, signal);
  } catch {
    // It has already ended.
  }
}
