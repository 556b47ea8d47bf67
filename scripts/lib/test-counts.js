// Counts of tests, read from what the test programs say. Honest in doubt: a suite
// that ran nothing, or that failed without naming a test, counts as a failure.

import { stripVTControlCharacters } from "node:util";

export function emptyCount() {
  return { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
}

const CARGO_RESULT =
  /^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored(?:.*finished in ([\d.]+)s)?/;
// "Running tests/native/main.rs (target/debug/deps/native-0123456789abcdef)"
const CARGO_PROGRAM = /^\s*(?:Running .*\((?:.*[\\/])?(.+?)-[0-9a-f]{16}(?:\.\w+)?\)|(Doc-tests \S+))$/;
const CARGO_TEST = /^test (.+?) \.\.\. (ok|FAILED|fail|ignored)(?:, (.*))?$/i;

// What cargo says of a program that did not come to its result, behind all others' results.
const BROKEN = /\(signal: \d+|could not compile/;

// Lines of what one program's failed tests said that are kept: a panic with its
// message and its backtrace, of several tests.
const SHOWN_LINES = 120;

// Reads the lines of `cargo test` and of wasm-bindgen-test-runner.
export function createCargoCounter() {
  const count = emptyCount();
  let running = 0;
  // What a program says between `failures:` and its result, while it does.
  let said;
  // Whether a test has failed in a program that has not come to its result.
  let isOpen = false;
  const parts = [];
  let program = "tests";
  return {
    count,
    // [name, seconds] of each program that has come to its result.
    parts: () => parts,
    // Reads a line of cargo's own, which may name the program that comes next.
    readProgram(line) {
      const found = CARGO_PROGRAM.exec(line);
      if (found !== null) program = found[1] ?? found[2];
    },
    // Tests that were named so far; the result lines have the last word.
    seen: () => running,
    // Whether a program broke off, or was never built: what failed is not all of it.
    brokeOff: () => isOpen,
    read(line) {
      const plain = stripVTControlCharacters(line).trim();
      const result = CARGO_RESULT.exec(plain);
      if (result !== null) {
        if (said !== undefined) count.failures.push(said.join("\n"));
        said = undefined;
        isOpen = false;
        count.passed += Number(result[1]);
        count.failed += Number(result[2]);
        count.skipped += Number(result[3]);
        if (result[4] !== undefined) parts.push([program, Number(result[4])]);
        return;
      }
      if (BROKEN.test(plain)) isOpen = true;
      if (plain === "failures:") said ??= [];
      else if (said !== undefined && said.length < SHOWN_LINES) said.push(line.trimEnd());
      const test = CARGO_TEST.exec(plain);
      if (test === null) return;
      running += 1;
      const state = test[2].toLowerCase();
      if (state === "ignored") count.skips.push(`${test[1]}: ${test[3] ?? "no reason given"}`);
      else if (state !== "ok") {
        count.failures.push(test[1]);
        isOpen = true;
      }
    },
  };
}

// Reads the JSON lines of node-reporter.js.
export function createNodeCounter() {
  const count = emptyCount();
  const seconds = new Map();
  return {
    count,
    // [file, seconds] of each file.
    parts: () => [...seconds],
    seen: () => count.passed + count.failed,
    read(line) {
      let event;
      try {
        event = JSON.parse(line);
      } catch {
        return undefined;
      }
      if (event.type === "time") {
        seconds.set(event.file, (seconds.get(event.file) ?? 0) + event.ms / 1000);
        return event;
      }
      if (event.skip !== undefined) {
        count.skipped += 1;
        count.skips.push(`${event.name}: ${event.skip === true || event.skip === "" ? "no reason given" : event.skip}`);
      } else if (event.type === "pass") {
        count.passed += 1;
      } else if (event.type === "fail") {
        count.failed += 1;
        count.failures.push(`${event.name}\n${event.error ?? ""}`.trimEnd());
      }
      return event;
    },
  };
}

// What a program's end adds to what it said.
export function settle(count, { code, signal, what = "it" }) {
  if (code !== 0 && count.failed === 0) {
    count.failed += 1;
    count.failures.push(`${what} ended with ${signal ?? `exit code ${code}`} and named no failing test`);
  } else if (count.passed + count.failed === 0) {
    count.failed += 1;
    count.failures.push(`${what} ran no test`);
  }
  return count;
}
