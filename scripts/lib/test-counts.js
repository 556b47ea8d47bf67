// Counts tests from the output of the test programs. A suite that ran no test, or that failed without
// naming a test, counts as a failure.

import { stripVTControlCharacters } from "node:util";

import { parseJson } from "../../cli/lib/files.js";

/**
 * @typedef {{ passed: number, failed: number, skipped: number, failures: string[], skips: string[] }} Count
 * @typedef {object} Counter
 * @property {Count} count
 * @property {() => [string, number][]} parts [name, seconds] of each test file or program that has ended
 * @property {() => number} seen number of tests so far; the result lines are authoritative
 * @property {(line: string) => TestEvent | undefined} read
 * @property {(line: string) => void} [readProgram] reads a line that may name the next program
 * @property {() => boolean} [brokeOff] whether a program crashed or was never built
 * A line of node-reporter.js.
 * @typedef {object} TestEvent
 * @property {"pass" | "fail" | "output" | "time"} type
 * @property {string} name
 * @property {string} [error]
 * @property {string | boolean} [skip]
 * @property {string} text
 * @property {string} file
 * @property {number} ms
 */

/** @returns {Count} */
export function emptyCount() {
  return { passed: 0, failed: 0, skipped: 0, failures: [], skips: [] };
}

const CARGO_RESULT =
  /^test result: (?:ok|FAILED)\. (\d+) passed; (\d+) failed; (\d+) ignored(?:.*finished in ([\d.]+)s)?/;
// "Running tests/native/main.rs (target/debug/deps/native-0123456789abcdef)"
const CARGO_PROGRAM = /^\s*(?:Running .*\((?:.*[\\/])?(.+?)-[0-9a-f]{16}(?:\.\w+)?\)|(Doc-tests \S+))$/;
const CARGO_TEST = /^test (.+?) \.\.\. (ok|FAILED|fail|ignored)(?:, (.*))?$/i;

// What cargo prints about a program without a result, after the results of all others.
const BROKEN = /\(signal: \d+|could not compile/;

// Number of output lines that are kept of one program's failed tests: enough for the panic messages
// and backtraces of several tests.
const SHOWN_LINES = 120;

/**
 * Reads the output of `cargo test` and of wasm-bindgen-test-runner.
 * @returns {Counter}
 */
export function createCargoCounter() {
  const count = emptyCount();
  let running = 0;
  /**
   * What a program prints between `failures:` and its result.
   * @type {string[] | undefined}
   */
  let said;
  // Whether a test has failed in a program that has no result yet.
  let isOpen = false;
  /** @type {[string, number][]} */
  const parts = [];
  let program = "tests";
  return {
    count,
    parts: () => parts,
    readProgram(line) {
      const found = CARGO_PROGRAM.exec(line);
      if (found !== null) program = found[1] ?? found[2];
    },
    seen: () => running,
    brokeOff: () => isOpen,
    /**
     * @param {string} line
     * @returns {undefined}
     */
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

/**
 * Reads the JSON lines of node-reporter.js.
 * @returns {Counter}
 */
export function createNodeCounter() {
  const count = emptyCount();
  /** @type {Map<string, number>} */
  const seconds = new Map();
  return {
    count,
    parts: () => [...seconds],
    seen: () => count.passed + count.failed,
    /**
     * @param {string} line
     * @returns {TestEvent | undefined}
     */
    read(line) {
      /** @type {TestEvent | undefined} */
      const event = parseJson(line);
      if (!event) return undefined;
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

/**
 * Adds what the end of a program says beyond its output.
 * @param {Count} count
 * @param {{ code: number | null, signal?: NodeJS.Signals | null, what?: string }} end
 */
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

/** @param {Count} count */
export function describeCount(count) {
  const parts = [`${count.passed} passed`];
  if (count.failed > 0) parts.push(`${count.failed} failed`);
  if (count.skipped > 0) parts.push(`${count.skipped} skipped`);
  return parts.join(", ");
}
