// The tasks of a test run that are not suites: compiling, the checks of the dependencies, instruction
// counts, fuzzing, and the search of the logs for secrets.

import { existsSync, readdirSync } from "node:fs";
import { basename, join, relative } from "node:path";

import {
  buildCounts,
  compareWithKept,
  count as countInstructions,
  whyNoComparison,
  whyNoValgrind,
} from "./callgrind.js";
import { runCargo } from "./cargo.js";
import { checkDependencies } from "./dependencies.js";
import { buildEdge } from "./edge-build.js";
import { ScriptError } from "../../cli/lib/errors.js";
import { readIfThere } from "../../cli/lib/files.js";
import { FUZZ_TARGETS, buildFuzzers, fuzz, whyNoFuzzing } from "./fuzzing.js";
import { ROOT, TARGET } from "./paths.js";
import { preparePolicyTool } from "./policy-tool.js";
import { findSecrets, listFiles } from "./secret-scan.js";
import { SHOWN_LINES } from "./suite-runner.js";
import { COMPILE_TESTS } from "./suites.js";
import { describeCount, emptyCount } from "./test-counts.js";
import { runCounted } from "./test-results.js";

/**
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Progress } from "../../cli/lib/progress.js"
 * @typedef {{ progress: Progress, processes: Processes }} Context
 */

/**
 * Checks licences, sources, hashes and known vulnerabilities of the dependencies.
 * @param {Context} context
 */
export async function checkAllDependencies({ progress, processes }) {
  const { count } = await runCounted(progress, "dependencies", async () => ({
    count: await checkDependencies({ processes }),
  }));
  return count;
}

/**
 * Counts the instructions of each case; one that deviates is a failure.
 * @param {Context} context
 */
export async function countAllInstructions({ progress, processes }) {
  const count = emptyCount();
  const why = (await whyNoComparison()) ?? (await whyNoValgrind());
  if (why !== undefined) return { ...count, skipped: 1, skips: [`instruction counts: ${why}`] };
  const program = await progress.run("compile the counted cases", (note) =>
    buildCounts({ processes, onProgress: note }),
  );
  await runCounted(progress, "instruction counts", async (note) => {
    const found = await countInstructions(program, { processes, onProgress: note });
    for (const { problem } of compareWithKept(found)) {
      if (problem === undefined) count.passed += 1;
      else {
        count.failed += 1;
        count.failures.push(problem);
      }
    }
    return { count };
  });
  return count;
}

/**
 * Runs each fuzz target for some seconds; a finding is a failure.
 * @param {Context} context
 * @param {number} seconds
 */
export async function fuzzAllTargets({ progress, processes }, seconds) {
  const count = emptyCount();
  const why = await whyNoFuzzing();
  if (why !== undefined) {
    count.skipped = FUZZ_TARGETS.length;
    count.skips.push(...FUZZ_TARGETS.map((name) => `fuzz ${name}: ${why}`));
    return count;
  }
  const folder = await progress.run("compile the fuzz targets", (note) =>
    buildFuzzers({ processes, onProgress: note }),
  );
  for (const name of FUZZ_TARGETS) {
    await progress.run(
      `fuzz ${name} for ${seconds} s`,
      async (note) => {
        try {
          const executions = await fuzz(folder, name, seconds, { processes });
          count.passed += 1;
          note(`${executions} executions`);
          return true;
        } catch (error) {
          count.failed += 1;
          const lines = error instanceof ScriptError ? error.lines : [];
          count.failures.push([...lines, /** @type {Error} */ (error).message].join("\n"));
          return false;
        }
      },
      (isFine) => isFine,
    );
  }
  return count;
}

/**
 * Searches the logs of a run for secrets. A run without logs is a failure.
 * @param {Context} context
 * @param {string} run
 */
export async function scanLogs({ progress }, run) {
  const count = emptyCount();
  const scan = () => {
    const files = listFiles(join(run, "logs"));
    const findings = findSecrets(files, (readIfThere(join(run, "secrets")) ?? "").split("\n"));
    if (files.length > 0 && findings.length === 0) count.passed = 1;
    else count.failed = 1;
    if (files.length === 0) count.failures.push("there was no log to search");
    for (const { file, line, what } of findings.slice(0, SHOWN_LINES))
      count.failures.push(`${relative(ROOT, file)}:${line} holds ${what}`);
    return `${files.length} files, ${describeCount(count)}`;
  };
  await progress.run(
    "scan of all logs for secrets",
    (note) => note(scan()),
    () => count.failed === 0,
  );
  return count;
}

/** @param {Context} context */
export async function buildPolicies({ progress, processes }) {
  const folder = join(ROOT, "tests", "edge", "policies");
  const names = existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith(".toml"))
        .sort()
    : [];
  await progress.run("compile the worker with the tests' policies", async (note) => {
    for (const name of names) {
      const policy = basename(name, ".toml");
      note(policy);
      await buildEdge({
        out: join(TARGET, "policies", policy),
        policy: join(folder, name),
        processes,
      });
    }
    note("");
  });
}

/**
 * @param {Context} context
 * @param {(name: string) => boolean} isChosen
 */
export async function compileTests({ progress, processes }, isChosen) {
  await progress.run("compile the tests", async (onProgress) => {
    await preparePolicyTool({ processes }).catch(() => {});
    for (const { args, env, for: suite } of COMPILE_TESTS) {
      if (suite !== undefined && !isChosen(suite)) continue;
      // A compile error is reported by the suite that needs the code, so that others still run.
      await runCargo(args, { env, processes, onProgress }).catch(() => {});
    }
  });
}
