// Runs cargo. Output is kept for the case of a failure; nothing is printed here.

import { execFileSync } from "node:child_process";

import { runCommand as run } from "../../cli/lib/commands.js";
import { parseJson } from "../../cli/lib/files.js";
import { ROOT } from "./paths.js";

/**
 * @import { CommandOptions } from "../../cli/lib/commands.js"
 * @import { Processes } from "../../cli/lib/processes.js"
 * @typedef {{ processes?: Processes, onProgress?: (text: string) => void }} Work
 */

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

// CI builds what Cargo.lock holds, or fails.
export const LOCKED = process.env.CI ? ["--locked"] : [];

// Makes cargo report its progress without a terminal.
export const PROGRESS_ENV = {
  CARGO_TERM_PROGRESS_WHEN: "always",
  CARGO_TERM_PROGRESS_WIDTH: "120",
  CARGO_TERM_COLOR: "never",
};

/**
 * Runs a command in the checkout.
 * @param {string} command
 * @param {string[]} args
 * @param {CommandOptions} [options]
 */
export const runCommand = (command, args, options = {}) => run(command, args, { cwd: ROOT, isNoise, ...options });

/**
 * Runs cargo. `onProgress` gets a short text such as "57/92 crates".
 * @param {string[]} args
 * @param {Work & CommandOptions} [options]
 */
export async function runCargo(args, { onProgress = () => {}, ...options } = {}) {
  /** @param {string} line */
  const onLine = (line) => {
    const found = PROGRESS.exec(line.trim());
    if (found !== null && /\[[=> ]+\]/.test(line)) onProgress(`${found[1]}/${found[2]} crates`);
    else if (/^\s*Blocking waiting for file lock/.test(line)) onProgress("waiting for another cargo");
  };
  const output = await runCommand("cargo", args, { onLine, ...options, env: { ...PROGRESS_ENV, ...options.env } });
  onProgress("");
  return output;
}

/**
 * Runs `cargo build` and resolves with the paths of the executables by the names of their targets.
 * @param {string[]} args
 * @param {Work & CommandOptions} options
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
