// Checks that the machine has what nothing in the checkout installs: Node with npm, Rust with cargo, a
// C compiler.

import { execFile } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { ROOT, WASM } from "./paths.js";
import { EXIT_USAGE, ScriptError } from "../../cli/lib/errors.js";

/** @typedef {{ what: string, remedy: string }} Missing what is missing, and what to do */

const NODE_MAJOR = 20;

const run = promisify(execFile);

/**
 * Resolves with the output of a command, or undefined if it cannot be run or fails.
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<string | undefined>}
 */
export function outputOf(command, args) {
  return run(command, args).then(
    ({ stdout }) => stdout.trim(),
    () => undefined,
  );
}

function rustVersionNeeded() {
  const found = /^rust-version = "([\d.]+)"/m.exec(readFileSync(join(ROOT, "Cargo.toml"), "utf8"));
  if (found === null) throw new Error("Cargo.toml has no rust-version");
  return found[1];
}

/**
 * Resolves with what is missing to compile.
 * @returns {Promise<Missing[]>}
 */
export async function missingCompilers() {
  const [cargo, rustc, compiler] = await Promise.all([
    outputOf("cargo", ["--version"]),
    outputOf("rustc", ["--version"]),
    outputOf(process.env.CC || "cc", ["--version"]),
  ]);
  const missing = [];
  const least = rustVersionNeeded();
  const version = /rustc ([\d.]+)/.exec(rustc ?? "")?.[1] ?? "0";
  if (cargo === undefined || rustc === undefined)
    missing.push({
      what: "Rust is missing",
      remedy: "install rustup from https://rustup.rs, then open a new terminal",
    });
  else if (version.localeCompare(least, "en", { numeric: true }) < 0)
    missing.push({
      what: `Rust ${version} is too old`,
      remedy: `run: rustup update stable (${least} or newer is needed)`,
    });
  if (compiler === undefined)
    missing.push({
      what: "A C compiler is missing",
      remedy:
        "install one (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install)",
    });
  return missing;
}

/**
 * Throws an error that says what to do if something is missing. `compiles` and `installs` say
 * whether programs are to be compiled and npm packages installed.
 * @param {{ compiles?: boolean, installs?: boolean }} [work]
 */
export async function checkPrerequisites({ compiles = true, installs = true } = {}) {
  /** @type {Missing[]} */
  const missing = [];
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR)
    missing.push({
      what: `Node ${process.versions.node} is too old`,
      remedy: `install Node ${NODE_MAJOR} or newer from https://nodejs.org`,
    });
  if (installs && (await outputOf("npm", ["--version"])) === undefined)
    missing.push({ what: "npm is missing", remedy: "install it together with Node from https://nodejs.org" });
  if (compiles) missing.push(...(await missingCompilers()));
  if (missing.length === 0) return;
  const sentences = missing.map(({ what, remedy }) => `${what}; ${remedy}.`);
  throw new ScriptError(sentences.join("\nportcullis: "), { code: EXIT_USAGE });
}

export async function hasWasmTarget() {
  const folder = await outputOf("rustc", ["--print", "target-libdir", "--target", WASM]);
  return folder !== undefined && existsSync(folder);
}
