// Runs one suite: counts its tests, keeps its output in the run's folder, and measures how
// long it and its parts take.

import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { join, relative } from "node:path";

import { PROGRESS_ENV, isBar, isNoise, splitLines } from "./cargo.js";
import { createCargoCounter, createNodeCounter, emptyCount, settle } from "./counts.js";
import { ROOT } from "./places.js";

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

// Gives { count, seconds, processor, parts }: the count of the suite's tests, and seconds;
// `parts` are [name, seconds] of each file or program of tests. `owner` is told of the process.
export function runSuite(suite, { run, owner, note, say, env: added = {} }) {
  const began = performance.now();
  const counter = suite.kind === "node" ? createNodeCounter() : createCargoCounter();
  const log = createWriteStream(join(run, "logs", `${suite.name}.txt`));
  const tail = [];
  const keep = (line) => {
    if (isBar(line)) {
      const found = /(\d+)\/(\d+)/.exec(line);
      if (found !== null) note(`${found[0]} crates`);
      return;
    }
    counter.readProgram?.(line);
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
    const child = spawn("sh", ["-c", MEASURED, "sh", suite.command, ...args], {
      cwd: ROOT,
      env,
      stdio: ["ignore", "pipe", "pipe", "pipe"],
      detached: true,
    });
    owner.adopt(child);
    let times = "";
    child.stdio[3].setEncoding("utf8").on("data", (text) => (times += text));
    splitLines(child.stdout, (line) => {
      const event = counter.read(line);
      if (event?.type === "output") return keep(event.text.trimEnd());
      if (event?.type === "time") return undefined;
      if (event !== undefined)
        keep(
          `${event.skip === undefined ? event.type : "skip"}  ${event.name}${event.error === undefined ? "" : `\n${event.error}`}`,
        );
      else keep(line);
      if (event?.type === "fail") say(`  ✗ ${event.name}`);
      if (suite.kind !== "check" && counter.seen() > 0) note(`${counter.seen()} tests`);
      return undefined;
    });
    splitLines(child.stderr, keep);
    child.on("error", (error) => {
      keep(`${suite.command} cannot be run (${error.code})`);
    });
    child.on("close", (code, signal) => {
      log.end();
      const done = (count) =>
        resolve({
          count,
          seconds: (performance.now() - began) / 1000,
          processor: processorSeconds(times),
          parts: counter.parts().map(([name, seconds]) => [relativeName(name), seconds]),
        });
      if (suite.kind === "check") {
        const count = emptyCount();
        if (code === 0) count.passed = 1;
        else {
          count.failed = 1;
          count.failures.push(tail.join("\n"));
        }
        return done(count);
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
      return done(count);
    });
  });
}

function relativeName(name) {
  return name.startsWith(ROOT) ? relative(ROOT, name) : name;
}
