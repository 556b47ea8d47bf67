// Runs cargo and reads how far it is from its progress line. Output is kept for
// the moment something fails; nothing is printed here.

import { spawn } from "node:child_process";

import { ROOT } from "./paths.js";
import { ScriptError } from "./errors.js";

// Lines of a failed command that are shown.
const LAST_LINES = 60;

const PROGRESS = /(\d+)\/(\d+)(?::\s*(.*))?$/;

// Lines of cargo's that say what it is at, and nothing about a failure.
const NOISE =
  /^\s*(?:Blocking|Checking|Compiling|Downloaded|Downloading|Dirty|Documenting|Fresh|Installing|Locking|Adding|Updating|Running|Doc-tests) /;
const BAR = /^\s*(?:Building|Downloading|Fetch) \[/;

export const isBar = (line) => BAR.test(line);
export const isNoise = (line) => line.trim() === "" || BAR.test(line) || NOISE.test(line);

// What cargo, rustup and npm say when a registry cannot be reached.
const NO_NETWORK =
  /could not (?:resolve host|connect)|couldn't connect|failed to connect|network (?:failure|error)|connection (?:refused|timed out)|failed to (?:fetch|download)|dns error|ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|ERR_SOCKET_TIMEOUT/i;

// The environment in which cargo tells its progress though nobody's terminal is
// attached.
export const PROGRESS_ENV = {
  CARGO_TERM_PROGRESS_WHEN: "always",
  CARGO_TERM_PROGRESS_WIDTH: "120",
  CARGO_TERM_COLOR: "never",
};

// Resolves with standard output; rejects with a ScriptError that says `failure`.
// `onProgress` gets a short text such as "57/92 crates".
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
    const lines = [];
    let output = "";
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
      reject(new ScriptError(`${command} cannot be run (${error.code}).`));
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

export function runCargo(args, options = {}) {
  return runCommand("cargo", args, { ...options, env: { ...PROGRESS_ENV, ...options.env } });
}

// Calls `onLine` for each piece that ends in a line feed or a carriage return.
export function splitLines(stream, onLine) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text) => {
    const pieces = (rest + text).split(/[\r\n]/);
    rest = pieces.pop();
    for (const piece of pieces) onLine(piece);
  });
  stream.on("end", () => {
    if (rest !== "") onLine(rest);
  });
}
