// The cargo profiles of wasm modules and their flags: `local` compiles in seconds, `worker` is deployed and published.

import { homedir } from "node:os";
import { join } from "node:path";

import { WASM } from "./paths.js";

export const LOCAL = "local";
export const DEPLOYED = "worker";

// Function names are a tenth of the module, and panic messages need none: they name file and line.
// KEEP_NAMES=true keeps them for profiling.
const BARE_FLAGS = ["--remove-name-section", "--remove-producers-section"];

/**
 * Returns the flags of wasm-bindgen that make a module smaller.
 * @param {string} profile
 * @param {NodeJS.ProcessEnv} env
 */
export const bindgenFlagsFor = (profile, env) => (profile === DEPLOYED && env.KEEP_NAMES !== "true" ? BARE_FLAGS : []);

/**
 * Leaves the Rust signature checks out of the deployed worker unless RUST_SIGNATURES=true.
 * @param {string} profile
 * @param {NodeJS.ProcessEnv} env
 */
export function featuresFor(profile, env) {
  return profile === DEPLOYED && env.RUST_SIGNATURES !== "true" ? ["--no-default-features"] : [];
}

// LLVM's default of 225 makes the worker 6 % larger. With 60 it is 3 % smaller, but more small functions wait for V8's second
// compiler: until an isolate has served some ten thousand requests, each costs 1 to 3 % more.
const INLINE_THRESHOLD = "-Cllvm-args=--inline-threshold=100";

/**
 * Removes the path of the cargo home from panic messages, so that the same sources give the same module on
 * every machine, and makes it smaller. An array, because the path may hold spaces.
 * @param {string} profile
 * @param {string} [cargoHome]
 */
export function configFor(profile, cargoHome = process.env.CARGO_HOME ?? join(homedir(), ".cargo")) {
  const flags = [`--remap-path-prefix=${cargoHome}=cargo`, INLINE_THRESHOLD];
  return profile === DEPLOYED ? ["--config", `target.${WASM}.rustflags=${JSON.stringify(flags)}`] : [];
}
