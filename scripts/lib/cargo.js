// Runs cargo and other commands. Output is kept for the case of a failure; nothing is printed here.

import { execFileSync, spawn } from "node:child_process";

import { parseJson } from "./files.js";
import { ROOT } from "./paths.js";
import { ScriptError, errorCode } from "./errors.js";

/**
 * @import { Readable } from "node:stream"
 * @typedef {object} CommandOnly
 * @property {Record<string, string | undefined>} [env] added to this process's environment
 * @property {string} [cwd]
 * @property {{ uid?: number, gid?: number }} [identity] user and group that the command runs as
 * @property {(line: string) => void} [onLine] gets each line of standard error
 * @property {string} [failure]
 * @typedef {Work & CommandOnly} CommandOptions
 */

/**
 * @import { Processes } from "./processes.js"
 * @typedef {{ processes?: Processes, onProgress?: (text: string) => void }} Work
 */

// Number of output lines that are shown of a failed command.
const LAST_LINES = 60;

// Bytes of the output of `cargo metadata`, which lists every dependency.
const METADATA_BYTES = 64 * 1024 * 1024;

const PROGRESS = /(\d+)\/(\d+)(?::\s*(.*))?$/;

// Lines in which cargo reports its progress, and nothing about a failure.
const NOISE =
  /^\s*(?:Blocking|Checking|Compiling|Downloaded|Downloading|Dirty|Documenting|Fresh|Installing|Locking|Adding|Updating|Running|Doc-tests) /;
const BAR = /^\s*(?:Building|Downloading|Fetch) \[/;

/** @param {string} line */
export const isBar = (line) => BAR.test(line);
/** @param {string} line */
export const isNoise = (line) => line.trim() === "" || BAR.test(line) || NOISE.test(line);

// Messages of cargo, rustup and npm when a registry cannot be reached.
const NO_NETWORK =
  /could not (?:resolve host|connect)|couldn't connect|failed to connect|network (?:failure|error)|connection (?:refused|timed out)|failed to (?:fetch|download)|dns error|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ERR_SOCKET_TIMEOUT/i;

// CI builds what Cargo.lock holds, or fails.
export const LOCKED = process.env.CI ? ["--locked"] : [];

// Makes cargo report its progress without a terminal.
export const PROGRESS_ENV = {
  CARGO_TERM_PROGRESS_WHEN: "always",
  CARGO_TERM_PROGRESS_WIDTH: "120",
  CARGO_TERM_COLOR: "never",
};

/**
 * Runs a command. Resolves with its standard output; rejects with a ScriptError that says `failure`.
 * `onProgress` gets a short text such as "57/92 crates".
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 * @returns {Promise<string>}
 */
export function runCommand(
  command,
  args,
  { env = {}, cwd = ROOT, identity = {}, onProgress = () => {}, onLine = () => {}, failure, processes } = {},
) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd,
      ...identity,
      env: { ...process.env, ...env },
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    processes?.adopt(child);
    /** @type {string[]} */
    const lines = [];
    let output = "";
    /** @param {string} line */
    const keep = (line) => {
      if (isNoise(line)) return;
      lines.push(line);
      if (lines.length > LAST_LINES) lines.shift();
      onLine(line);
    };
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    splitLines(child.stderr, (line) => {
      const found = PROGRESS.exec(line.trim());
      if (found !== null && /\[[=> ]+\]/.test(line)) onProgress(`${found[1]}/${found[2]} crates`);
      else if (/^\s*Blocking waiting for file lock/.test(line)) onProgress("waiting for another cargo");
      keep(line.trimEnd());
    });
    child.on("error", (error) => {
      reject(new ScriptError(`${command} cannot be run (${errorCode(error)}).`));
    });
    child.on("close", (code, signal) => {
      if (code === 0) {
        onProgress("");
        return resolve(output);
      }
      for (const line of output.split("\n").slice(-LAST_LINES)) keep(line);
      const shown = lines.slice(-LAST_LINES);
      const network = shown.find((line) => NO_NETWORK.test(line));
      if (network !== undefined) {
        reject(
          new ScriptError(
            `${failure}: a package registry cannot be reached; check the network (or the proxy) and try again.`,
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
 * @param {string[]} args
 * @param {CommandOptions} [options]
 */
export function runCargo(args, options = {}) {
  return runCommand("cargo", args, { ...options, env: { ...PROGRESS_ENV, ...options.env } });
}

/**
 * Runs `cargo build` and resolves with the paths of the executables by the names of their targets.
 * @param {string[]} args
 * @param {CommandOptions} options
 * @returns {Promise<Record<string, string>>}
 */
export async function buildExecutables(args, options) {
  const output = await runCargo(["build", ...args, "--message-format", "json-render-diagnostics"], options);
  const messages = output.split("\n").flatMap((line) => parseJson(line) ?? []);
  return Object.fromEntries(
    messages.filter(({ executable }) => executable).map(({ target, executable }) => [target.name, executable]),
  );
}

/**
 * Returns the packages that `cargo metadata` lists.
 * @param {...string} args
 * @returns {{ name: string, manifest_path: string, targets: { kind: string[], name: string }[] }[]}
 */
export function cargoPackages(...args) {
  const output = execFileSync("cargo", ["metadata", "--format-version", "1", ...LOCKED, ...args], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: METADATA_BYTES,
  });
  return JSON.parse(output).packages;
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
