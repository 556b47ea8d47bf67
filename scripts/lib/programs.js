// The compiled programs of a checkout, and whether their sources have changed since they were compiled.
// The latter is decided by a digest of the sources, which needs no cargo.

import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { readIfThere } from "../../cli/lib/files.js";
import { ORIGIN, ROOT, TARGET, TOOLS, WASM } from "./paths.js";

/**
 * A compiled program. `stamp` is the file that holds the digest of the sources `file` was compiled from.
 * @typedef {{ title: string, file: string, stamp: string, sources: string[] }} Program
 */

/** @type {Program} */
export const SERVICES = {
  title: "the services",
  file: ORIGIN,
  stamp: `${ORIGIN}.stamp`,
  sources: [
    ...["Cargo.toml", "Cargo.lock", "crates/redact", "crates/resilience"],
    ...["client/Cargo.toml", "client/src", "origin/Cargo.toml", "origin/migrations", "origin/src"],
  ],
};

/**
 * @param {string} profile
 * @returns {Program}
 */
export function worker(profile) {
  const file = join(TARGET, WASM, profile, "portcullis.wasm");
  return { title: "the worker", file, stamp: `${file}.stamp`, sources: ["Cargo.toml", "Cargo.lock", "crates", "src"] };
}

export const POLICY_FOLDER = join(TOOLS, "policy");

/** @type {Program} */
export const POLICY_TOOL = {
  title: "the policy tool",
  file: join(POLICY_FOLDER, "portcullis_cli_bg.wasm"),
  stamp: join(POLICY_FOLDER, "stamp"),
  sources: ["Cargo.toml", "Cargo.lock", "crates/cli", "crates/policy", "crates/resilience", "crates/token"],
};

/** @param {Program} program */
export const isBuilt = ({ file }) => existsSync(file);

/** @param {Program} program */
export const isCurrent = (program) => isBuilt(program) && readIfThere(program.stamp) === digestOf(program.sources);

/**
 * Compiles a program by `work`, and records the digest of the sources from before.
 * @param {Program} program
 * @param {() => Promise<unknown>} work
 */
export async function compile({ stamp, sources }, work) {
  const digest = digestOf(sources);
  rmSync(stamp, { force: true });
  await work();
  writeFileSync(stamp, digest);
}

/**
 * Returns a digest of files and of all files in folders, named relative to the checkout.
 * @param {string[]} sources
 */
export function digestOf(sources) {
  const hash = createHash("sha256");
  for (const file of sources.flatMap(filesIn)) {
    hash.update(`${file}\0`);
    hash.update(readFileSync(join(ROOT, file)));
  }
  return hash.digest("hex");
}

/** @param {string} source */
function filesIn(source) {
  if (statSync(join(ROOT, source)).isFile()) return [source];
  return readdirSync(join(ROOT, source), { recursive: true, encoding: "utf8" })
    .filter((name) => /\.(?:rs|toml|js|sql)$/.test(name))
    .sort()
    .map((name) => join(source, name));
}
