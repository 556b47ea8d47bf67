// Runs one suite: counts its tests, keeps its output in the run's folder, and measures how long it and
// its parts take.

import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { basename, join, relative } from "node:path";

import { splitLines } from "../../cli/lib/commands.js";
import { PROGRESS_ENV, isBar, isNoise } from "./cargo.js";
import { errorCode } from "../../cli/lib/errors.js";
import { createCargoCounter, createNodeCounter, emptyCount, settle } from "./test-counts.js";
import { ROOT } from "./paths.js";

/**
 * @import { WriteStream } from "node:fs"
 * @import { Readable } from "node:stream"
 * @import { Note } from "../../cli/lib/progress.js"
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { CheckSuite, Suite, TestSuite } from "./suites.js"
 * @import { Count, TestEvent } from "./test-counts.js"
 * @typedef {[name: string, seconds: number][]} Parts
 * @typedef {{ count: Count, seconds: number, processor?: number, parts: Parts }} Result
 * @typedef {object} RunOptions
 * @property {string} run folder of the run
 * @property {Processes} processes
 * @property {Note} note
 * @property {(text: string) => void} say
 * @property {NodeJS.ProcessEnv} [env]
 * @typedef {object} ProgramOptions
 * @property {NodeJS.ProcessEnv} env
 * @property {Processes} processes
 * @property {(line: string) => void} onOut
 * @property {(line: string) => void} onErr
 * @typedef {object} Context
 * @property {NodeJS.ProcessEnv} env
 * @property {ReturnType<typeof createOutput>} output
 * @property {Processes} processes
 * @property {Note} note
 * @property {(text: string) => void} say
 */

// Lines of a failed suite's output that are shown at the end.
export const SHOWN_LINES = 80;

// Runs a command, then writes the CPU time of it and its children to descriptor 3: the second line of
// POSIX's `times`.
const MEASURED = '"$@"; code=$?; times >&3; exit $code';

/**
 * Returns the seconds of CPU time in the output of `times`, such as "1m2.50s 0m0.30s" in its second line;
 * undefined if there is none.
 * @param {string} text
 */
function processorSeconds(text) {
  const parts = [...(text.trim().split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) return undefined;
  return parts.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}

/**
 * Runs a suite. `seconds` and `processor` are elapsed and CPU time; `parts` are [name, seconds] of each test
 * file or program. `say` prints a line above the progress.
 * @param {Suite} suite
 * @param {RunOptions} options
 * @returns {Promise<Result>}
 */
export async function runSuite(suite, { run, processes, note, say, env: added = {} }) {
  const began = performance.now();
  const log = createWriteStream(join(run, "logs", `${suite.name}.txt`));
  const context = {
    // A failed test names its line; backtraces of many failures hide the other failures.
    env: { ...process.env, RUST_BACKTRACE: "0", ...suite.env, ...added, TEST_RUN_DIR: run, TEST_BUILT: "1" },
    output: createOutput(log, note),
    processes,
    note,
    say,
  };
  const result = suite.kind === "check" ? await runChecks(suite, context) : await runTests(suite, context);
  log.end();
  return { ...result, seconds: secondsSince(began) };
}

/**
 * Runs the commands of a suite of checks one after another. Each counts as one test, which passes if
 * the command exits with 0.
 * @param {CheckSuite} suite
 * @param {Context} context
 */
async function runChecks({ commands }, { output, ...context }) {
  const count = emptyCount();
  /** @type {Parts} */
  const parts = [];
  /** @type {number | undefined} */
  let processor;
  for (const { command, args } of commands) {
    const began = performance.now();
    output.clear();
    const ended = await runProgram(command, args, { ...context, onOut: output.add, onErr: output.add });
    if (ended.code === 0) count.passed += 1;
    else {
      count.failed += 1;
      count.failures.push(output.tail());
    }
    if (ended.processor !== undefined) processor = (processor ?? 0) + ended.processor;
    parts.push([`${basename(command)} ${args[0]}`, secondsSince(began)]);
  }
  return { count, processor, parts };
}

/**
 * Runs the command of a suite of tests and counts the tests that it reports.
 * @param {TestSuite} suite
 * @param {Context} context
 * @returns {Promise<Omit<Result, "seconds">>}
 */
async function runTests(suite, { output, say, ...context }) {
  const isCargo = suite.kind === "cargo";
  const counter = isCargo ? createCargoCounter() : createNodeCounter();
  const args = typeof suite.args === "function" ? suite.args() : suite.args;
  /** @param {string} line */
  const add = (line) => {
    if (!isBar(line)) counter.readProgram?.(line);
    output.add(line);
  };
  const { code, signal, processor } = await runProgram(suite.command, args, {
    ...context,
    /** @param {string} line */
    onOut(line) {
      const event = counter.read(line);
      if (event?.type === "time") return;
      add(event === undefined ? line : describeEvent(event));
      if (event?.type === "output") return;
      if (event?.type === "fail") say(`  ✗ ${event.name}`);
      if (counter.seen() > 0) context.note(`${counter.seen()} tests`);
    },
    onErr: add,
  });
  const { count } = counter;
  const isNamed = count.failures.length > 0 && !counter.brokeOff?.();
  settle(count, { code, signal, what: [isCargo ? "cargo" : "node", ...args.slice(0, 2)].join(" ") });
  // If the named tests are not the only failures, the last lines say why.
  if (isCargo && count.failed > 0 && !isNamed) count.failures.push(output.tail());
  return { count, processor, parts: counter.parts().map(([name, seconds]) => [relativeName(name), seconds]) };
}

/**
 * Writes lines to the log and keeps the last ones that are not progress reports of cargo.
 * @param {WriteStream} log
 * @param {Note} note
 */
function createOutput(log, note) {
  /** @type {string[]} */
  const lines = [];
  return {
    /** @param {string} line */
    add(line) {
      if (isBar(line)) {
        const found = /(\d+)\/(\d+)/.exec(line);
        if (found !== null) note(`${found[0]} crates`);
        return;
      }
      log.write(`${line}\n`);
      if (!isNoise(line)) lines.push(line);
      if (lines.length > SHOWN_LINES) lines.shift();
    },
    clear: () => lines.splice(0),
    tail: () => lines.join("\n"),
  };
}

/**
 * Resolves when the command has ended.
 * @param {string} command
 * @param {string[]} args
 * @param {ProgramOptions} options
 * @returns {Promise<{ code: number | null, signal: NodeJS.Signals | null, processor?: number }>}
 */
function runProgram(command, args, { env, processes, onOut, onErr }) {
  return new Promise((resolve) => {
    const child = spawn("sh", ["-c", MEASURED, "sh", command, ...args], {
      cwd: ROOT,
      env: command === "cargo" ? { ...env, ...PROGRESS_ENV } : env,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      detached: true,
    });
    processes.adopt(child);
    let times = "";
    const [, out, err, descriptor] = /** @type {Readable[]} */ (child.stdio);
    descriptor.setEncoding("utf8").on("data", (text) => {
      times += text;
    });
    splitLines(out, onOut);
    splitLines(err, onErr);
    child.on("error", (error) => onErr(`${command} cannot be run (${errorCode(error)})`));
    child.on("close", (code, signal) => resolve({ code, signal, processor: processorSeconds(times) }));
  });
}

/** @param {TestEvent} event */
function describeEvent({ type, name, error, skip, text }) {
  if (type === "output") return text.trimEnd();
  return `${skip === undefined ? type : "skip"}  ${name}${error === undefined ? "" : `\n${error}`}`;
}

/** @param {number} began */
function secondsSince(began) {
  return (performance.now() - began) / 1000;
}

/** @param {string} name */
function relativeName(name) {
  return name.startsWith(ROOT) ? relative(ROOT, name) : name;
}
