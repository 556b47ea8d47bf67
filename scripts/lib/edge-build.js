// Builds the worker: cargo to wasm, wasm-bindgen to a module and its glue, our
// entry beside it. Touches target/ and build/ alone, and does nothing that the
// last build has done already.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { runCargo, runCommand } from "./cargo.js";
import { hasWasmBindgen } from "./install.js";
import { withLock } from "./lock.js";
import { BUILD, ROOT, TARGET, WASM, WASM_BINDGEN, wasmBindgenVersion } from "./paths.js";
import { hasWasmTarget } from "./prerequisites.js";
import { ScriptError } from "./errors.js";

/**
 * @import { Work } from "./cargo.js"
 * @typedef {{ profile?: string, out?: string, env?: Record<string, string | undefined> }} Build
 */

// Reset and abort handler: after a panic the glue starts the module anew with the
// next event instead of failing every request that the isolate ever gets.
const BINDGEN_FLAGS = [
  "--target",
  "module",
  "--no-typescript",
  "--out-name",
  "index",
  "--experimental-reset-state-function",
  "--force-enable-abort-handler",
];

// Function names are a tenth of what every isolate would load; panics say file and line
// without them. KEEP_NAMES=true keeps them, for whoever profiles.
const BARE_FLAGS = ["--remove-name-section", "--remove-producers-section"];

const DEPLOYED = "worker";

const FILES = ["index_bg.wasm", "index.js", "entry.js"];

// A build that failed for mistakes in the policy; `lines` are the mistakes, one each.
export class PolicyError extends ScriptError {}

// Held from the start of cargo until the glue is made, for each policy is compiled to the
// same file.
const LOCK = join(TARGET, "edge-build.lock");

/**
 * Builds the worker into `out`. The profile `local` compiles in seconds; `worker` is the deployed one.
 * @param {Build & Work} [options]
 */
export async function buildEdge({ profile = "local", out = BUILD, env = {}, onProgress, processes } = {}) {
  await requireTools();
  await withLock(LOCK, async () => {
    await compileWasm({ profile, env, onProgress, processes });
    await makeGlue({ profile, out, processes });
  });
}

// A build installs nothing: `npm run setup` does.
async function requireTools() {
  if (!hasWasmBindgen()) {
    throw new ScriptError(`wasm-bindgen ${wasmBindgenVersion()} is not in .tools; run: npm run setup`);
  }
  if (!(await hasWasmTarget())) {
    throw new ScriptError(`Rust's ${WASM} target is missing; run: npm run setup`);
  }
}

/**
 * Leaves the Rust signature checks out of the deployed worker unless RUST_SIGNATURES=true.
 * @param {string} profile
 * @param {NodeJS.ProcessEnv} env
 */
export function featuresFor(profile, env) {
  return profile === DEPLOYED && env.RUST_SIGNATURES !== "true" ? ["--no-default-features"] : [];
}

/**
 * Removes the path of the cargo home from panic messages, so that the same sources give the same worker on
 * every machine. An array, because the path may hold spaces.
 * @param {string} profile
 * @param {string} cargoHome
 */
export function configFor(profile, cargoHome) {
  const flags = [`--remap-path-prefix=${cargoHome}=cargo`];
  return profile === DEPLOYED ? ["--config", `target.${WASM}.rustflags=${JSON.stringify(flags)}`] : [];
}

/** @param {Build & Work} [options] */
export async function compileWasm({ profile = "local", env = {}, onProgress, processes } = {}) {
  const locked = process.env.CI ? ["--locked"] : [];
  const args = [
    "build",
    "--package",
    "portcullis",
    "--lib",
    "--target",
    WASM,
    "--profile",
    profile,
    "--target-dir",
    TARGET,
    ...featuresFor(profile, process.env),
    ...configFor(profile, process.env.CARGO_HOME ?? join(homedir(), ".cargo")),
    ...locked,
  ];
  try {
    await runCargo(args, { env, onProgress, processes, failure: "The worker does not compile" });
  } catch (error) {
    // The build script found fault with gateway.toml: file, line and mend are all one needs.
    const lines = error instanceof ScriptError ? error.lines : [];
    const told = lines.map((line) => /^error: portcullis@[\d.]+: (.+)/.exec(line)?.[1]);
    // Cargo may repeat what a build script said.
    const mistakes = [...new Set(told.filter((line) => line !== undefined))];
    if (mistakes.length > 0)
      throw new PolicyError("The policy cannot be built; the lines above say where and what to write instead.", {
        lines: mistakes,
      });
    throw error;
  }
}

/** @param {Build & Work} [options] */
export async function makeGlue({ profile = "local", out = BUILD, processes } = {}) {
  const wasm = join(TARGET, WASM, profile, "portcullis.wasm");
  const flags = [...BINDGEN_FLAGS, ...(profile === DEPLOYED && process.env.KEEP_NAMES !== "true" ? BARE_FLAGS : [])];
  const entry = join(ROOT, "src", "host", "entry.js");
  const stamp = fingerprint([readFileSync(wasm), readFileSync(entry), wasmBindgenVersion(), flags.join(" ")]);
  const stampFile = join(out, "stamp");
  const isCurrent = FILES.every((name) => existsSync(join(out, name))) && readIfThere(stampFile) === stamp;
  if (isCurrent) return;

  // Made aside and moved into place, so that a running `wrangler dev` never sees
  // the glue of one build with the module of another for longer than a moment.
  const aside = join(out, `.new-${process.pid}`);
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  try {
    await runCommand(WASM_BINDGEN, [wasm, "--out-dir", aside, ...flags], {
      processes,
      failure: "wasm-bindgen failed",
    });
    fixImport(join(aside, "index.js"));
    copyFileSync(entry, join(aside, "entry.js"));
    rmSync(stampFile, { force: true });
    // JavaScript that Rust code brought along; there may be none.
    rmSync(join(out, "snippets"), { recursive: true, force: true });
    for (const name of ["snippets", ...FILES]) {
      if (existsSync(join(aside, name))) renameSync(join(aside, name), join(out, name));
    }
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

/**
 * Replaces wasm-bindgen's source-phase import, which workerd does not support: there, as in wrangler's
 * bundler, a plain import of a .wasm file is a module.
 * @param {string} file
 */
function fixImport(file) {
  const glue = readFileSync(file, "utf8");
  const fixed = glue.replace(/^import source /m, "import ");
  if (fixed === glue)
    throw new ScriptError(
      "wasm-bindgen's glue has another form than expected; look at fixImport in scripts/lib/edge-build.js.",
    );
  writeFileSync(file, fixed);
}

/** @param {(string | Buffer)[]} parts */
function fingerprint(parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex");
}

/** @param {string} file */
function readIfThere(file) {
  return existsSync(file) ? readFileSync(file, "utf8") : undefined;
}
