// `npm test` and `npm run test:long`: installs what is missing, runs every suite, searches all logs for
// secrets, and reports failures and durations. The last line is `N passed, M failed`.

import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { basename, join, relative } from "node:path";

import { namesOf, readArguments, wholeNumber } from "./lib/arguments.js";
import { runCargo } from "./lib/cargo.js";
import {
  buildCounts,
  compareWithKept,
  count as countInstructions,
  whyNoComparison,
  whyNoValgrind,
} from "./lib/callgrind.js";
import { emptyCount } from "./lib/test-counts.js";
import { checkDependencies } from "./lib/dependencies.js";
import { buildEdge } from "./lib/edge-build.js";
import { FUZZ_TARGETS, buildFuzzers, fuzz, whyNoFuzzing } from "./lib/fuzzing.js";
import {
  canInstallPython,
  hasPackages,
  hasPython,
  installComponents,
  installPackages,
  installPython,
  missingComponents,
} from "./lib/install.js";
import { ROOT, TARGET } from "./lib/paths.js";
import { preparePolicyTool } from "./lib/policy-tool.js";
import { startPostgres, whyNoPostgres } from "./lib/postgres.js";
import { createProcesses } from "./lib/processes.js";
import { findSecrets, listFiles, readSecrets } from "./lib/secret-scan.js";
import { runInLanes } from "./lib/schedule.js";
import { setUp } from "./lib/setup.js";
import { listenForEnd } from "./lib/signals.js";
import { createProgress } from "./lib/progress.js";
import { SHOWN_LINES, runSuite } from "./lib/suite-runner.js";
import { COMPILE_TESTS, LONG_SUITES, POLICIES, SUITES, TESTS } from "./lib/suites.js";
import { EXIT_USAGE, ScriptError, reportError } from "./lib/errors.js";

/**
 * @import { Option } from "./lib/arguments.js"
 * @import { Progress } from "./lib/progress.js"
 * @import { Task } from "./lib/schedule.js"
 * @import { Result } from "./lib/suite-runner.js"
 * @import { Suite } from "./lib/suites.js"
 * @import { Count } from "./lib/test-counts.js"
 * @typedef {{ help?: boolean, list?: boolean, long?: boolean, lanes: number, only?: string[], names: string[] }} Options
 * @typedef {{ title: string, seconds: number, processor?: number, parts: [name: string, seconds: number][] }} Took
 */

const COUNTS = "counts";
const DEPENDENCIES = "dependencies";
const FUZZ = "fuzz";
const SCAN = "scan";
const NAMES = [...SUITES.map((suite) => suite.name), COUNTS, DEPENDENCIES, FUZZ, SCAN];
const LONG_NAMES = [...LONG_SUITES.map((suite) => suite.name), FUZZ, SCAN];

// Seconds per fuzz target: enough to find shallow faults.
const FUZZ_SECONDS = 10;
// Enough for rarer faults.
const LONG_FUZZ_SECONDS = 300;

// Suites that run in parallel: one more than there are cores, because most wait as much as they compute.
// Directories, ports and memory suffice for three.
const LANES_MAX = 3;
const LANES = Math.min(availableParallelism() + 1, LANES_MAX);

// Number of suites, and of test files and programs, whose duration is shown.
const SLOWEST = 10;

const HELP = `npm test                         installs what is missing and runs every suite
npm test -- --only edge,stack    runs only these suites
npm test -- --lanes 1            runs them one after another (default here: ${LANES} at once)
npm test -- --list               lists the suites
npm test -- --help               shows this
npm run test:long                runs the slow suites; takes the same options

  suites:      ${NAMES.join(", ")}
  long suites: ${LONG_NAMES.join(", ")}

The logs are in target/test-runs. To run one file of node:test:
  npm run setup && node_modules/.bin/node --test tests/edge/headers.test.js`;

// Number of runs whose directories are kept, including this one.
const RUNS_KEPT = 3;

// Settings for `npm start` must not affect the tests.
const SETTINGS = [
  "GATEWAY_CONFIG",
  "EDGE_PORT",
  "AUTH_PORT",
  "USERS_PORT",
  "DATA_DIR",
  "LOG_LEVEL",
  "AUTH_DATABASE_URL",
  "USERS_DATABASE_URL",
  "TEST_POSTGRES_URL",
  "EDGE_PROFILE",
];

const MOST_LANES = 99;

/**
 * @param {string[]} args
 * @returns {Options}
 */
function parseArguments(args) {
  /** @type {Record<string, Option>} */
  const options = {
    list: { type: "boolean" },
    long: { type: "boolean" },
    lanes: { type: "string", parse: wholeNumber(MOST_LANES) },
    only: { type: "string", parse: namesOf(args.includes("--long") ? LONG_NAMES : NAMES) },
  };
  const { values } = readArguments(args, { command: "npm test", options });
  return { lanes: LANES, ...values, names: values.long ? LONG_NAMES : NAMES };
}

function openRun() {
  const runs = join(TARGET, "test-runs");
  mkdirSync(runs, { recursive: true });
  const old = readdirSync(runs)
    .sort()
    .reverse()
    .slice(RUNS_KEPT - 1);
  for (const name of old) rmSync(join(runs, name), { recursive: true, force: true });
  const run = join(runs, `${new Date().toISOString().replace(/[:.]/g, "-")}-${process.pid}`);
  mkdirSync(join(run, "logs"), { recursive: true });
  return run;
}

const processes = createProcesses();
let isStopping = false;

listenForEnd(
  async (code) => {
    isStopping = true;
    await processes.stopAll();
    process.exit(code);
  },
  () => processes.killAll(),
);

/**
 * Checks licences, sources, hashes and known vulnerabilities of the dependencies.
 * @param {Progress} progress
 */
function checkAll(progress) {
  return progress.run(
    "dependencies",
    async (note) => {
      const count = await checkDependencies({ processes });
      note(describe(count));
      return count;
    },
    /** @param {Count} count */
    isGreen,
  );
}

/**
 * Counts the instructions of each case; one that deviates is a failure.
 * @param {Progress} progress
 */
async function countAll(progress) {
  const count = emptyCount();
  const why = (await whyNoComparison()) ?? (await whyNoValgrind());
  if (why !== undefined) return { ...count, skipped: 1, skips: [`instruction counts: ${why}`] };
  const program = await progress.run("compile the counted cases", (note) =>
    buildCounts({ processes, onProgress: note }),
  );
  return progress.run(
    "instruction counts",
    async (note) => {
      const found = await countInstructions(program, { processes, onProgress: note });
      for (const { problem } of compareWithKept(found)) {
        if (problem === undefined) count.passed += 1;
        else {
          count.failed += 1;
          count.failures.push(problem);
        }
      }
      note(describe(count));
      return count;
    },
    isGreen,
  );
}

/**
 * Runs each fuzz target for some seconds; a finding is a failure.
 * @param {Progress} progress
 * @param {number} seconds
 */
async function fuzzAll(progress, seconds) {
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

/** @param {string} run */
function scanRun(run) {
  const secretsFile = join(run, "secrets");
  const files = listFiles(join(run, "logs"));
  const findings = findSecrets(files, readSecrets(secretsFile));
  rmSync(secretsFile, { force: true });
  const count = emptyCount();
  if (files.length === 0) {
    count.failed = 1;
    count.failures.push("there was no log to search");
  } else if (findings.length === 0) {
    count.passed = 1;
  } else {
    count.failed = 1;
    for (const { file, line, what } of findings.slice(0, SHOWN_LINES)) {
      count.failures.push(`${relative(ROOT, file)}:${line} holds ${what}`);
    }
  }
  return { count, files: files.length };
}

/** @param {Progress} progress */
async function buildPolicies(progress) {
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
 * @param {Progress} progress
 * @param {(name: string) => boolean} isChosen
 */
async function compileTests(progress, isChosen) {
  await progress.run("compile the tests", async (onProgress) => {
    await preparePolicyTool({ processes }).catch(() => {});
    for (const { args, env, for: suite } of COMPILE_TESTS) {
      if (suite !== undefined && !isChosen(suite)) continue;
      // A compile error is reported by the suite that needs the code, so that others still run.
      await runCargo(args, { env, processes, onProgress }).catch(() => {});
    }
  });
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (options.help || options.list) {
    console.log(options.help ? HELP : options.names.join("\n"));
    return 0;
  }
  for (const name of SETTINGS) delete process.env[name];
  /** @param {string} name */
  const isChosen = (name) => options.names.includes(name) && (options.only?.includes(name) ?? true);
  const suites = (options.long ? LONG_SUITES : SUITES).filter((suite) => isChosen(suite.name));
  const progress = createProgress();
  const run = openRun();
  const total = emptyCount();
  /** @type {{ title: string, failures: string[] }[]} */
  const failed = [];
  /** @type {Took[]} */
  const took = [];

  await prepare(progress, suites, { python: isChosen(DEPENDENCIES) });
  /**
   * @param {string} title
   * @param {Count} count
   */
  const addUp = (title, count) => {
    total.passed += count.passed;
    total.failed += count.failed;
    total.skipped += count.skipped;
    for (const skip of count.skips) progress.say(`  skipped: ${skip}`);
    if (count.failed > 0) failed.push({ title, failures: count.failures });
  };
  /**
   * @param {string} title
   * @param {() => Promise<Count>} work
   */
  const timed = (title, work) => async () => {
    const began = performance.now();
    addUp(title, await work());
    took.push({ title, seconds: (performance.now() - began) / 1000, parts: [] });
  };

  /** @type {Task[]} */
  const tasks = suites.map((suite) => ({
    ...suite,
    async run() {
      const { count, seconds, processor, parts = [] } = await runStep(suite, { progress, run });
      addUp(suite.title, count);
      if (seconds !== undefined) took.push({ title: suite.title, seconds, processor, parts });
    },
  }));
  if (suites.some((suite) => suite.after?.includes(TESTS)))
    insertBefore(tasks, TESTS, { name: TESTS, holds: ["target/debug"], run: () => compileTests(progress, isChosen) });
  if (suites.some((suite) => suite.after?.includes(POLICIES)))
    insertBefore(tasks, POLICIES, { name: POLICIES, run: () => buildPolicies(progress) });
  if (isChosen(DEPENDENCIES)) tasks.push({ name: DEPENDENCIES, run: timed("dependencies", () => checkAll(progress)) });
  if (isChosen(COUNTS)) tasks.push({ name: COUNTS, run: timed("instruction counts", () => countAll(progress)) });
  if (isChosen(FUZZ)) {
    const seconds = options.long ? LONG_FUZZ_SECONDS : FUZZ_SECONDS;
    tasks.push({ name: FUZZ, run: timed("fuzzing", () => fuzzAll(progress, seconds)) });
  }
  await runInLanes(tasks, options.lanes);

  if (isChosen(SCAN)) {
    const count = await progress.run(
      "scan of all logs for secrets",
      async (note) => {
        const { count: found, files } = scanRun(run);
        note(`${files} files, ${describe(found)}`);
        return found;
      },
      isGreen,
    );
    addUp("scan of all logs for secrets", count);
  }
  rmSync(join(run, "secrets"), { force: true });

  progress.close();
  console.log(slowest(took));
  for (const { title, failures } of failed) {
    console.log(`\n✗ ${title}`);
    for (const failure of failures) console.log(failure.replace(/^/gm, "    "));
  }
  console.log(
    `\nlogs: ${relative(process.cwd(), run)}/logs · ${progress.elapsed()}${total.skipped > 0 ? ` · ${total.skipped} skipped` : ""}`,
  );
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

/**
 * Installs and compiles what the suites need before any of them can run.
 * @param {Progress} progress
 * @param {Suite[]} suites
 * @param {{ python: boolean }} options
 */
async function prepare(progress, suites, { python }) {
  const needs = new Set(suites.map((suite) => suite.needs));
  const needsTools = suites.some((suite) => suite.kind === "node" || suite.name.includes("wasm"));
  const hasChecks = suites.some((suite) => suite.kind === "check");
  const lints = hasChecks ? await missingComponents() : [];
  if (lints.length > 0)
    await progress.run(`install Rust's ${lints.join(" and ")}`, () => installComponents(lints, { processes }));
  if (hasChecks && !needsTools && !hasPackages())
    await progress.run("install npm packages", () => installPackages({ processes }));
  await setUp(progress, { processes, origin: needs.has("stack"), edge: needsTools });
  if ((python || needs.has("edge") || needs.has("stack")) && !hasPython() && (await canInstallPython()))
    await progress.run("install the tests' Python packages", () => installPython({ processes }));
}

/**
 * Inserts a task before the first one that waits for it.
 * @param {Task[]} tasks
 * @param {string} name
 * @param {Task} task
 */
function insertBefore(tasks, name, task) {
  tasks.splice(
    tasks.findIndex(({ after }) => after?.includes(name)),
    0,
    task,
  );
}

/**
 * Runs one suite as a step, with the server that it needs.
 * @param {Suite} suite
 * @param {{ progress: Progress, run: string }} options
 * @returns {Promise<Partial<Result> & { count: Count }>}
 */
async function runStep(suite, { progress, run }) {
  let server;
  if (suite.needs === "postgres") {
    const whyNot = whyNoPostgres();
    if (whyNot !== undefined) return { count: { ...emptyCount(), skipped: 1, skips: [`${suite.title}: ${whyNot}`] } };
    server = await progress.run("start PostgreSQL", () => startPostgres({ processes }));
  }
  const env = server === undefined ? {} : { TEST_POSTGRES_URL: server.url };
  const result = await progress.run(
    suite.title,
    async (note) => {
      const found = await runSuite(suite, { run, processes, note, say: progress.say, env });
      note(describe(found.count));
      return found;
    },
    ({ count }) => isGreen(count),
  );
  await server?.stop();
  return result;
}

/**
 * Returns the durations of all suites, and of the slowest test files and programs.
 * @param {Took[]} took
 */
function slowest(took) {
  /**
   * @param {string} name
   * @param {number} seconds
   * @param {number} [processor]
   */
  const row = (name, seconds, processor) =>
    `  ${seconds.toFixed(1).padStart(7)} s  ${processor === undefined ? "" : `${processor.toFixed(1)} s`.padStart(9)}  ${name}`;
  const byTime = [...took].sort((one, other) => other.seconds - one.seconds);
  const parts = took
    .flatMap((suite) => suite.parts.map(([name, seconds]) => ({ name: `${name} (${suite.title})`, seconds })))
    .sort((one, other) => other.seconds - one.seconds)
    .slice(0, SLOWEST);
  return [
    "\nduration and CPU time of the suites",
    ...byTime.map(({ title, seconds, processor }) => row(title, seconds, processor)),
    ...(parts.length === 0 ? [] : ["slowest test files and programs"]),
    ...parts.map(({ name, seconds }) => row(name, seconds)),
  ].join("\n");
}

/** @param {Count} count */
function isGreen(count) {
  return count.failed === 0;
}

/** @param {Count} count */
function describe(count) {
  const parts = [`${count.passed} passed`];
  if (count.failed > 0) parts.push(`${count.failed} failed`);
  if (count.skipped > 0) parts.push(`${count.skipped} skipped`);
  return parts.join(", ");
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!isStopping) {
    const code = reportError(error);
    // A failed set-up is a failed run, and ends with the same line.
    if (code !== EXIT_USAGE) console.log("0 passed, 1 failed");
    process.exitCode = code;
    await processes.stopAll();
  }
}
