// `npm test`: sets up what is missing, runs every suite, looks through all logs for
// secrets, and says at the end what failed. The last line is `N passed, M failed`.

import { createWriteStream, existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { spawn } from "node:child_process";
import { basename, join, relative } from "node:path";

import { PROGRESS_ENV, isBar, isNoise, splitLines } from "./lib/cargo.js";
import {
  buildCounts,
  compareWithKept,
  count as countInstructions,
  whyNoComparison,
  whyNoValgrind,
} from "./lib/counts-measure.js";
import { createCargoCounter, createNodeCounter, emptyCount, settle } from "./lib/counts.js";
import { buildEdge } from "./lib/edge-build.js";
import { FUZZ_TARGETS, buildFuzzers, fuzz, whyNoFuzzing } from "./lib/fuzzing.js";
import {
  canInstallPython,
  hasPython,
  installComponents,
  installPython,
  missingComponents,
} from "./lib/install.js";
import { ROOT, TARGET } from "./lib/places.js";
import { startPostgres, whyNoPostgres } from "./lib/postgres.js";
import { createProcesses } from "./lib/processes.js";
import { findSecrets, listFiles, readSecrets } from "./lib/scan.js";
import { setUp } from "./lib/set-up.js";
import { listenForEnd } from "./lib/signals.js";
import { createSteps } from "./lib/steps.js";
import { SUITES } from "./lib/suites.js";
import { EXIT_SETTING, Trouble, tell } from "./lib/trouble.js";

const COUNTS = "counts";
const FUZZ = "fuzz";
const SCAN = "scan";
const NAMES = [...SUITES.map((suite) => suite.name), COUNTS, FUZZ, SCAN];

// For each fuzz target: enough to see that it runs and that nothing shallow is broken.
const FUZZ_SECONDS = 20;

const HELP = `npm test                         sets up what is missing and runs every suite
npm test -- --only edge,stack    runs only these
npm test -- --list               lists the suites
npm test -- --help               shows this

  suites: ${NAMES.join(", ")}

Logs of the run are in target/test-runs. One suite of node:test by hand:
  npm run setup && node_modules/.bin/node --test tests/edge/headers.test.js`;

// Folders of runs that are kept, this one among them.
const RUNS_KEPT = 3;

// Lines of a failed suite's output that are shown at the end.
const SHOWN_LINES = 80;

// What somebody has set for `npm start` must not bend a test.
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

function parseArguments(args) {
  const options = { help: false, list: false, only: undefined };
  for (let index = 0; index < args.length; index += 1) {
    const [name, value] = args[index].split("=", 2);
    if (name === "--help" || name === "-h") options.help = true;
    else if (name === "--list") options.list = true;
    else if (name === "--only") {
      options.only = (value ?? args[(index += 1)] ?? "").split(",").filter((text) => text !== "");
    } else
      throw new Trouble(`${JSON.stringify(args[index])} is not known; see: npm test -- --help`, {
        code: EXIT_SETTING,
      });
  }
  for (const name of options.only ?? []) {
    if (!NAMES.includes(name))
      throw new Trouble(`There is no suite ${JSON.stringify(name)}; there are: ${NAMES.join(", ")}.`, {
        code: EXIT_SETTING,
      });
  }
  if (options.only?.length === 0)
    throw new Trouble(`--only needs a suite: ${NAMES.join(", ")}.`, { code: EXIT_SETTING });
  return options;
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

// Runs one suite and gives its count.
function runSuite(suite, { run, note, say, env: added = {} }) {
  const counter = suite.kind === "node" ? createNodeCounter() : createCargoCounter();
  const log = createWriteStream(join(run, "logs", `${suite.name}.txt`));
  const tail = [];
  const keep = (line) => {
    if (isBar(line)) {
      const found = /(\d+)\/(\d+)/.exec(line);
      if (found !== null) note(`${found[0]} crates`);
      return;
    }
    log.write(`${line}\n`);
    if (!isNoise(line)) tail.push(line);
    if (tail.length > SHOWN_LINES) tail.shift();
  };
  const args = typeof suite.args === "function" ? suite.args() : suite.args;
  const env = {
    ...process.env,
    ...(suite.command === "cargo" ? PROGRESS_ENV : {}),
    ...suite.env,
    ...added,
    TEST_RUN_DIR: run,
    TEST_BUILT: "1",
  };
  return new Promise((resolve) => {
    const child = spawn(suite.command, args, {
      cwd: ROOT,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      detached: true,
    });
    processes.adopt(child);
    splitLines(child.stdout, (line) => {
      const event = counter.read(line);
      if (event?.type === "output") return keep(event.text.trimEnd());
      if (event !== undefined)
        keep(
          `${event.skip === undefined ? event.type : "skip"}  ${event.name}${event.error === undefined ? "" : `\n${event.error}`}`,
        );
      else keep(line);
      if (event?.type === "fail") say(`  ✗ ${event.name}`);
      if (suite.kind !== "check" && counter.seen() > 0) note(`${counter.seen()} tests`);
    });
    splitLines(child.stderr, keep);
    child.on("error", (error) => {
      keep(`${suite.command} cannot be run (${error.code})`);
    });
    child.on("close", (code, signal) => {
      log.end();
      if (suite.kind === "check") {
        const count = emptyCount();
        if (code === 0) count.passed = 1;
        else {
          count.failed = 1;
          count.failures.push(tail.join("\n"));
        }
        return resolve(count);
      }
      const { count } = counter;
      const isNamed = count.failures.length > 0 && !counter.brokeOff?.();
      settle(count, {
        code,
        signal,
        what: [suite.command === "cargo" ? "cargo" : "node", ...args.slice(0, 2)].join(" "),
      });
      // Where the tests that failed are not all, the last lines say why.
      if (suite.kind === "cargo" && count.failed > 0 && !isNamed) count.failures.push(tail.join("\n"));
      resolve(count);
    });
  });
}

// Counts the instructions of each case; one that is off is a failure.
async function countAll(steps) {
  const count = emptyCount();
  const why = (await whyNoComparison()) ?? (await whyNoValgrind());
  if (why !== undefined) return { ...count, skipped: 1, skips: [`instruction counts: ${why}`] };
  const program = await steps.run("compile the counted cases", (note) =>
    buildCounts({ owner: processes, onProgress: note }),
  );
  return steps.run(
    "instruction counts",
    async (note) => {
      const found = await countInstructions(program, { owner: processes, onProgress: note });
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

// Runs each fuzz target for a short while; a finding is a failure.
async function fuzzAll(steps) {
  const count = emptyCount();
  const why = await whyNoFuzzing();
  if (why !== undefined) {
    count.skipped = FUZZ_TARGETS.length;
    count.skips.push(...FUZZ_TARGETS.map((name) => `fuzz ${name}: ${why}`));
    return count;
  }
  const folder = await steps.run("compile the fuzz targets", (note) =>
    buildFuzzers({ owner: processes, onProgress: note }),
  );
  for (const name of FUZZ_TARGETS) {
    await steps.run(
      `fuzz ${name} for ${FUZZ_SECONDS} s`,
      async (note) => {
        try {
          const executions = await fuzz(folder, name, FUZZ_SECONDS, { owner: processes });
          count.passed += 1;
          note(`${executions} executions`);
          return true;
        } catch (error) {
          count.failed += 1;
          count.failures.push([...(error.lines ?? []), error.message].join("\n"));
          return false;
        }
      },
      (isFine) => isFine,
    );
  }
  return count;
}

function scanRun(run) {
  const secretsFile = join(run, "secrets");
  const files = listFiles(join(run, "logs"));
  const findings = findSecrets(files, readSecrets(secretsFile));
  rmSync(secretsFile, { force: true });
  const count = emptyCount();
  if (files.length === 0) {
    count.failed = 1;
    count.failures.push("there was no log to look through");
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

async function buildPolicies(steps) {
  const folder = join(ROOT, "tests", "edge", "policies");
  const names = existsSync(folder)
    ? readdirSync(folder)
        .filter((name) => name.endsWith(".toml"))
        .sort()
    : [];
  for (const name of names) {
    const policy = basename(name, ".toml");
    await steps.run(`compile the worker with policy ${policy}`, (note) =>
      buildEdge({
        out: join(TARGET, "policies", policy),
        env: { GATEWAY_CONFIG: join(folder, name) },
        owner: processes,
        onProgress: note,
      }),
    );
  }
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (options.help || options.list) {
    console.log(options.help ? HELP : NAMES.join("\n"));
    return 0;
  }
  for (const name of SETTINGS) delete process.env[name];
  const isChosen = (name) => options.only === undefined || options.only.includes(name);
  const suites = SUITES.filter((suite) => isChosen(suite.name));
  const steps = createSteps();
  const run = openRun();
  const total = emptyCount();
  const failed = [];

  const needs = new Set(suites.map((suite) => suite.needs));
  const needsTools = suites.some((suite) => suite.kind === "node" || suite.name.includes("wasm"));
  const lints = suites.some((suite) => suite.kind === "check") ? await missingComponents() : [];
  if (lints.length > 0)
    await steps.run(`install Rust's ${lints.join(" and ")}`, () =>
      installComponents(lints, { owner: processes }),
    );
  await setUp(steps, { owner: processes, origin: needs.has("stack"), edge: needsTools });
  if (needs.has("edge") && !hasPython() && (await canInstallPython()))
    await steps.run("install the tests' Python packages", () => installPython({ owner: processes }));
  if (needs.has("edge")) await buildPolicies(steps);

  let server;
  const whyNot = whyNoPostgres();
  if (needs.has("postgres") && whyNot === undefined)
    server = await steps.run("start PostgreSQL", () => startPostgres({ processes }));
  for (const suite of suites) {
    if (suite.needs === "postgres" && server === undefined) {
      addUp(suite.title, { ...emptyCount(), skipped: 1, skips: [`${suite.title}: ${whyNot}`] });
      continue;
    }
    const env = suite.needs === "postgres" ? { TEST_POSTGRES_URL: server.url } : {};
    const count = await steps.run(
      suite.title,
      async (note) => {
        const found = await runSuite(suite, { run, note, say: steps.say, env });
        note(describe(found));
        return found;
      },
      isGreen,
    );
    addUp(suite.title, count);
  }
  await server?.stop();
  if (isChosen(COUNTS)) addUp("instruction counts", await countAll(steps));
  if (isChosen(FUZZ)) addUp("fuzzing", await fuzzAll(steps));
  if (isChosen(SCAN)) {
    const count = await steps.run(
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

  function addUp(title, count) {
    total.passed += count.passed;
    total.failed += count.failed;
    total.skipped += count.skipped;
    for (const skip of count.skips) steps.say(`  skipped: ${skip}`);
    if (count.failed > 0) failed.push({ title, failures: count.failures });
  }

  steps.close();
  for (const { title, failures } of failed) {
    console.log(`\n✗ ${title}`);
    for (const failure of failures) console.log(failure.replace(/^/gm, "    "));
  }
  console.log(
    `\nlogs: ${relative(process.cwd(), run)}/logs · ${steps.elapsed()}${total.skipped > 0 ? ` · ${total.skipped} skipped` : ""}`,
  );
  console.log(`${total.passed} passed, ${total.failed} failed`);
  return total.failed === 0 ? 0 : 1;
}

function isGreen(count) {
  return count.failed === 0;
}

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
    const code = tell(error);
    // A set-up that fails is a run that fails, and says so in the same words.
    if (code !== EXIT_SETTING) console.log("0 passed, 1 failed");
    process.exitCode = code;
    await processes.stopAll();
  }
}
