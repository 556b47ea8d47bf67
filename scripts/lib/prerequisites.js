// Checks that the machine has what nothing in the checkout installs: Node with npm, Rust with cargo, a
// C compiler.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { ROOT, WASM } from "./paths.js";
import { EXIT_USAGE, ScriptError } from "./errors.js";

const NODE_MAJOR = 20;

/**
 * Resolves with the output of a command, or undefined if it cannot be run or fails.
 * @param {string} command
 * @param {string[]} args
 * @returns {Promise<string | undefined>}
 */
export function ask(command, args) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.on("error", () => resolve(undefined));
    child.on("close", (code) => resolve(code === 0 ? output.trim() : undefined));
  });
}

export function rustVersionNeeded() {
  const found = /^rust-version = "([\d.]+)"/m.exec(readFileSync(join(ROOT, "Cargo.toml"), "utf8"));
  if (found === null) throw new Error("Cargo.toml has no rust-version");
  return found[1];
}

/**
 * @param {string} version
 * @param {string} least
 */
export function isOlder(version, least) {
  const [have, want] = [version, least].map((text) => text.split(".").map(Number));
  for (const [index, number] of want.entries()) {
    if ((have[index] ?? 0) !== number) return (have[index] ?? 0) < number;
  }
  return false;
}

export async function checkPrerequisites() {
  const [npm, cargo, rustc, compiler] = await Promise.all([
    ask("npm", ["--version"]),
    ask("cargo", ["--version"]),
    ask("rustc", ["--version"]),
    ask(process.env.CC || "cc", ["--version"]),
  ]);
  const missing = [];
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR) {
    missing.push(
      `Node ${process.versions.node} is too old; install Node ${NODE_MAJOR} or newer from https://nodejs.org.`,
    );
  }
  if (npm === undefined) missing.push("npm is missing; install it together with Node from https://nodejs.org.");
  const least = rustVersionNeeded();
  if (cargo === undefined || rustc === undefined) {
    missing.push("Rust is missing; install rustup from https://rustup.rs, then open a new terminal.");
  } else {
    const version = /rustc ([\d.]+)/.exec(rustc)?.[1] ?? "0";
    if (isOlder(version, least))
      missing.push(`Rust ${version} is too old; run: rustup update stable (${least} or newer is needed).`);
  }
  if (compiler === undefined) {
    missing.push(
      "A C compiler is missing; install one (Debian, Ubuntu: apt install build-essential; Fedora: dnf install gcc; macOS: xcode-select --install).",
    );
  }
  if (missing.length > 0) throw new ScriptError(missing.join("\nportcullis: "), { code: EXIT_USAGE });
}

export async function hasWasmTarget() {
  const folder = await ask("rustc", ["--print", "target-libdir", "--target", WASM]);
  return folder !== undefined && existsSync(folder);
}
