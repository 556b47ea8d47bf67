// `npm test` and `npm run test:long`: installs what is missing, runs every suite, searches all logs for
// secrets, and reports failures and durations. The last line is `N passed, M failed`.

import { mkdirSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";

import { namesOf, readArguments, wholeNumber } from "../cli/lib/arguments.js";
import { EXIT_USAGE, reportError } from "../cli/lib/errors.js";
import {
  canInstallPython,
  hasPackages,
  hasPython,
  installComponents,
  installPackages,
  installPython,
  missingComponents,
} from "./lib/install.js";
import { TARGET } from "./lib/paths.js";
import { startPostgres, whyNoPostgres } from "./lib/postgres.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { createProgress } from "../cli/lib/progress.js";
import { runInLanes } from "./lib/schedule.js";
import { setUp } from "./lib/setup.js";
import { runScript } from "../cli/lib/script.js";
import { isEnding } from "../cli/lib/signals.js";
import { runSuite } from "./lib/suite-runner.js";
import { LONG_SUITES, POLICIES, SUITES, TESTS } from "./lib/suites.js";
import { emptyCount } from "./lib/test-counts.js";
import { createResults, runCounted } from "./lib/test-results.js";
import {
  buildPolicies,
  checkAllDependencies,
  compileTests,
  countAllInstructions,
  fuzzAllTargets,
  scanLogs,
} from "./lib/test-tasks.js";

/**
 * @import { Option } from "../cli/lib/arguments.js"
 * @import { Processes } from "../cli/lib/processes.js"
 * @import { Progress } from "../cli/lib/progress.js"
 * @import { Task } from "./lib/schedule.js"
 * @import { Suite } from "./lib/suites.js"
 * @import { Results } from "./lib/test-results.js"
 * @typedef {{ help?: boolean, list?: boolean, long?: boolean, lanes: number, only?: string[], names: string[] }} Options
 * @typedef {{ progress: Progress, processes: Processes, run: string, results: Results }} Run
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

/**
 * @param {string[]} args
 * @param {Processes} processes
 */
async function main(args, processes) {
  const options = parseArguments(args);
  if (options.help || options.list) {
    console.log(options.help ? HELP : options.names.join("\n"));
    return 0;
  }
  for (const name of SETTINGS) delete process.env[name];
  /** @param {string} name */
  const isChosen = (name) => options.names.includes(name) && (options.only?.includes(name) ?? true);
  const suites = (options.long ? LONG_SUITES : SUITES).filter((suite) => isChosen(suite.name));
  const progress = createProgress();
  const results = createResults(progress);
  const run = openRun();
  const context = { progress, processes, run, results };
  await prepare(suites, { python: isChosen(DEPENDENCIES), ...context });
  const tasks = tasksOf(suites, isChosen, context);
  if (isChosen(FUZZ)) {
    const seconds = options.long ? LONG_FUZZ_SECONDS : FUZZ_SECONDS;
    tasks.push({
      name: FUZZ,
      run: () => results.measure("fuzzing", () => fuzzAllTargets(context, seconds)),
    });
  }
  await runInLanes(tasks, options.lanes);
  if (isChosen(SCAN)) results.add("scan of all logs for secrets", await scanLogs(context, run));
  rmSync(join(run, "secrets"), { force: true });
  progress.close();
  return results.print({ run });
}

/**
 * Returns the tasks of a run: the suites, what they wait for, and the other checks.
 * @param {Suite[]} suites
 * @param {(name: string) => boolean} isChosen
 * @param {Run} context
 */
function tasksOf(suites, isChosen, context) {
  const { results } = context;
  /** @type {Task[]} */
  const tasks = suites.map((suite) => ({ ...suite, run: () => runStep(suite, context) }));
  /** @param {Task} task */
  const insertBeforeUse = (task) => {
    const index = tasks.findIndex(({ after }) => after?.includes(task.name));
    if (index >= 0) tasks.splice(index, 0, task);
  };
  insertBeforeUse({ name: TESTS, holds: ["target/debug"], run: () => compileTests(context, isChosen) });
  insertBeforeUse({ name: POLICIES, run: () => buildPolicies(context) });
  if (isChosen(DEPENDENCIES))
    tasks.push({
      name: DEPENDENCIES,
      run: () => results.measure("dependencies", () => checkAllDependencies(context)),
    });
  if (isChosen(COUNTS))
    tasks.push({ name: COUNTS, run: () => results.measure("instruction counts", () => countAllInstructions(context)) });
  return tasks;
}

/**
 * Installs and compiles what the suites need before any of them can run.
 * @param {Suite[]} suites
 * @param {Run & { python: boolean }} options
 */
async function prepare(suites, { progress, processes, python }) {
  await checkPrerequisites();
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
 * Runs one suite as a step, with the server that it needs.
 * @param {Suite} suite
 * @param {Run} options
 */
async function runStep(suite, { progress, processes, run, results }) {
  let server;
  if (suite.needs === "postgres") {
    const whyNot = whyNoPostgres();
    if (whyNot !== undefined) {
      results.add(suite.title, { ...emptyCount(), skipped: 1, skips: [`${suite.title}: ${whyNot}`] });
      return;
    }
    server = await progress.run("start PostgreSQL", () => startPostgres({ processes }));
  }
  const env = server === undefined ? {} : { TEST_POSTGRES_URL: server.url };
  const { count, ...durations } = await runCounted(progress, suite.title, (note) =>
    runSuite(suite, { run, processes, note, say: progress.say, env }),
  );
  await server?.stop();
  results.add(suite.title, count, durations);
}

await runScript(async (args, processes) => {
  try {
    return await main(args, processes);
  } catch (error) {
    const code = reportError(error);
    // A failed set-up is a failed run, and ends with the same line.
    if (code !== EXIT_USAGE && !isEnding()) console.log("0 passed, 1 failed");
    return code;
  }
});
