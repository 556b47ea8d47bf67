// Runs one suite: counts its tests, keeps its output in the run's folder, and measures how
// long it and its parts take.

import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { basename, join, relative } from "node:path";

import { PROGRESS_ENV, isBar, isNoise, splitLines } from "./cargo.js";
import { createCargoCounter, createNodeCounter, emptyCount, settle } from "./test-counts.js";
import { ROOT } from "./paths.js";

// Lines of a failed suite's output that are shown at the end.
export const SHOWN_LINES = 80;

// Runs a command and then writes to descriptor 3 what processor time it and its children
// took: the second line of POSIX's `times`.
const MEASURED = '"$@"; code=$?; times >&3; exit $code';

// Seconds of processor time, of a line such as "1m2.50s 0m0.30s"; undefined where there is none.
export function processorSeconds(text) {
  const parts = [...(text.trim().split("\n")[1] ?? "").matchAll(/(\d+)m([\d.]+)s/g)];
  if (parts.length !== 2) return undefined;
  return parts.reduce((sum, [, minutes, seconds]) => sum + Number(minutes) * 60 + Number(seconds), 0);
}

// Runs a suite and resolves with { count, seconds, processor, parts }: the count of its tests,
// the elapsed time and the processor time in seconds, and [name, seconds] of each test file or
// program. `processes` ends the processes when the run is interrupted.
export async function runSuite(suite, { run, processes, note, say, env: added = {} }) {
  const began = performance.now();
  const log = createWriteStream(join(run, "logs", `${suite.name}.txt`));
  const context = {
    env: { ...process.env, ...suite.env, ...added, TEST_RUN_DIR: run, TEST_BUILT: "1" },
    output: createOutput(log, note),
    processes,
    note,
    say,
  };
  const result = suite.kind === "check" ? await runChecks(suite, context) : await runTests(suite, context);
  log.end();
  return { ...result, seconds: secondsSince(began) };
}

// Runs the commands of a suite of checks one after another. Each counts as one test, which
// passes if the command exits with 0.
async function runChecks({ commands }, { output, ...context }) {
  const count = emptyCount();
  const parts = [];
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

// Runs the command of a suite of tests and counts the tests that it reports.
async function runTests(suite, { output, say, ...context }) {
  const isCargo = suite.kind === "cargo";
  const counter = isCargo ? createCargoCounter() : createNodeCounter();
  const args = typeof suite.args === "function" ? suite.args() : suite.args;
  const add = (line) => {
    if (!isBar(line)) counter.readProgram?.(line);
    output.add(line);
  };
  const { code, signal, processor } = await runProgram(suite.command, args, {
    ...context,
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
  // Where the tests that failed are not all, the last lines say why.
  if (isCargo && count.failed > 0 && !isNamed) count.failures.push(output.tail());
  return { count, processor, parts: counter.parts().map(([name, seconds]) => [relativeName(name), seconds]) };
}

// Writes lines to the log and keeps the last ones that are not progress reports of cargo.
function createOutput(log, note) {
  const lines = [];
  return {
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

// Resolves with { code, signal, processor } when the command has ended.
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
    child.stdio[3].setEncoding("utf8").on("data", (text) => {
      times += text;
    });
    splitLines(child.stdout, onOut);
    splitLines(child.stderr, onErr);
    child.on("error", (error) => onErr(`${command} cannot be run (${error.code})`));
    child.on("close", (code, signal) => resolve({ code, signal, processor: processorSeconds(times) }));
  });
}

function describeEvent({ type, name, error, skip, text }) {
  if (type === "output") return text.trimEnd();
  return `${skip === undefined ? type : "skip"}  ${name}${error === undefined ? "" : `\n${error}`}`;
}

function secondsSince(began) {
  return (performance.now() - began) / 1000;
}

function relativeName(name) {
  return name.startsWith(ROOT) ? relative(ROOT, name) : name;
}
