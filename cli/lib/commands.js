// Runs other programs. Output is kept for the case of a failure; nothing is printed here.

import { spawn } from "node:child_process";

import { ScriptError, errorCode } from "./errors.js";

/**
 * @import { Readable } from "node:stream"
 * @import { Processes } from "./processes.js"
 * @typedef {object} CommandOptions
 * @property {Processes} [processes]
 * @property {Record<string, string | undefined>} [env] added to this process's environment
 * @property {string} [cwd]
 * @property {{ uid?: number, gid?: number }} [identity] user and group that the command runs as
 * @property {string} [input] text for standard input
 * @property {(line: string) => void} [onLine] gets each line of standard error
 * @property {(line: string) => boolean} [isNoise] lines that say nothing about a failure
 * @property {string} [failure]
 */

// Number of output lines that are shown of a failed command.
const LAST_LINES = 60;

// Messages of cargo, rustup, npm and wrangler when a remote service cannot be reached.
const NO_NETWORK =
  /could not (?:resolve host|connect)|couldn't connect|failed to connect|network (?:failure|error)|connection (?:refused|timed out)|failed to (?:fetch|download)|dns error|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ERR_SOCKET_TIMEOUT/i;

/**
 * Runs a command. Resolves with its standard output; rejects with a ScriptError that says `failure`.
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 * @returns {Promise<string>}
 */
export function runCommand(
  command,
  args,
  {
    env = {},
    cwd = process.cwd(),
    identity = {},
    input,
    onLine = () => {},
    isNoise = () => false,
    failure,
    processes,
  } = {},
) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      ...identity,
      env: { ...process.env, ...env },
      stdio: [input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
      detached: true,
    });
    processes?.adopt(child);
    // A command that reads nothing may end first.
    child.stdin?.on("error", () => {}).end(input);
    /** @type {string[]} */
    const lines = [];
    let output = "";
    /** @param {string} line */
    const keep = (line) => {
      if (line.trim() === "" || isNoise(line)) return;
      lines.push(line.trimEnd());
      if (lines.length > LAST_LINES) lines.shift();
    };
    /** @type {Readable} */ (child.stdout).setEncoding("utf8").on("data", (text) => (output += text));
    splitLines(/** @type {Readable} */ (child.stderr), (line) => {
      onLine(line);
      keep(line);
    });
    child.on("error", (error) => {
      reject(new ScriptError(`${command} cannot be run (${errorCode(error)}).`));
    });
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(output);
      for (const line of output.split("\n").slice(-LAST_LINES)) keep(line);
      const shown = lines.slice(-LAST_LINES);
      const network = shown.find((line) => NO_NETWORK.test(line));
      if (network !== undefined) {
        reject(
          new ScriptError(
            `${failure}: a remote service cannot be reached; check the network (or the proxy) and try again.`,
            { lines: [network.trim()] },
          ),
        );
      } else {
        reject(
          new ScriptError(`${failure} (${signal ?? `exit code ${code}`}); the lines above say why.`, {
            lines: shown,
          }),
        );
      }
    });
  });
}

/**
 * Calls `onLine` for each piece of a stream that ends in a line feed or a carriage return.
 * @param {Readable} stream
 * @param {(line: string) => void} onLine
 */
export function splitLines(stream, onLine) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text) => {
    const pieces = (rest + text).split(/[\r\n]/);
    rest = pieces.pop() ?? "";
    for (const piece of pieces) onLine(piece);
  });
  stream.on("end", () => {
    if (rest !== "") onLine(rest);
  });
}
