// Builds and runs the fuzz targets. libFuzzer's counters are compiled in with stable compiler flags,
// so only a C++ compiler is needed in addition.

import { mkdirSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";

import { LOCKED, runCargo, runCommand } from "./cargo.js";
import { EXIT_USAGE, ScriptError } from "../../cli/lib/errors.js";
import { ROOT, TARGET } from "./paths.js";
import { outputOf } from "./prerequisites.js";

/** @import { Work } from "./cargo.js" */

const FOLDER = join(ROOT, "fuzz");
const WORK = join(TARGET, "fuzz");

// Bytes of an input: at or beyond the limits of nearly every target.
const INPUT_BYTES = 16 * 1024;

export const FUZZ_TARGETS = readdirSync(join(FOLDER, "src", "bin"))
  .map((name) => basename(name, ".rs"))
  .sort();

const COVERAGE = [
  "-Cpasses=sancov-module",
  "-Cllvm-args=-sanitizer-coverage-level=4",
  "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
  "-Cllvm-args=-sanitizer-coverage-pc-table",
  "-Cllvm-args=-sanitizer-coverage-trace-compares",
  "--cfg=fuzzing",
];

/** Returns why fuzzing is not possible here, or undefined. */
export async function whyNoFuzzing() {
  if ((await outputOf(process.env.CXX || "c++", ["--version"])) === undefined)
    return "a C++ compiler is missing (Debian: apt install g++)";
  return undefined;
}

/** @param {Work} [options] */
export async function buildFuzzers({ processes, onProgress } = {}) {
  const host = /^host: (.+)$/m.exec((await outputOf("rustc", ["-vV"])) ?? "")?.[1];
  if (host === undefined) throw new ScriptError("rustc does not name its host.", { code: EXIT_USAGE });
  const args = ["build", "--release", "--target-dir", WORK, ...LOCKED];
  // With an explicit target, the flags do not apply to build scripts.
  await runCargo([...args, "--target", host], {
    cwd: FOLDER,
    env: { CARGO_ENCODED_RUSTFLAGS: COVERAGE.join("\u001f") },
    processes,
    onProgress,
    failure: "The fuzz targets do not compile",
  });
  return join(WORK, host, "release");
}

/**
 * Runs one target. Resolves with the number of executions; rejects with the finding.
 * @param {string} folder
 * @param {string} name
 * @param {number} seconds
 * @param {Work} [options]
 */
export async function fuzz(folder, name, seconds, { processes } = {}) {
  const found = join(WORK, "corpus", name);
  const artifacts = join(WORK, "artifacts", name);
  for (const made of [found, artifacts]) mkdirSync(made, { recursive: true });
  /** @type {string | undefined} */
  let executions;
  /** @type {string | undefined} */
  let problem;
  await runCommand(
    join(folder, name),
    [
      ...[found, join(FOLDER, "corpus", name)],
      ...[`-max_total_time=${seconds}`, `-max_len=${INPUT_BYTES}`, "-timeout=5", "-rss_limit_mb=2048"],
      ...["-print_final_stats=1", `-artifact_prefix=${artifacts}/`],
    ],
    {
      processes,
      failure: `The fuzzer found an input that breaks ${name}, kept in ${artifacts}`,
      /** @param {string} line */
      onLine(line) {
        executions ??= /stat::number_of_executed_units:\s*(\d+)/.exec(line)?.[1];
        problem ??= /SUMMARY: .*/.exec(line)?.[0];
      },
    },
  );
  if (executions === undefined) throw new Error(problem ?? `${name} reported no number of executions`);
  return Number(executions);
}
