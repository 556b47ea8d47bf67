// Collects the results of a test run: counts, failures and durations, and prints them at its end.

import { relative } from "node:path";

import { describeCount, emptyCount } from "./test-counts.js";

/**
 * @import { Progress } from "../../cli/lib/progress.js"
 * @import { Count } from "./test-counts.js"
 * @typedef {{ seconds: number, processor?: number, parts?: [name: string, seconds: number][] }} Durations
 * @typedef {ReturnType<typeof createResults>} Results
 */

// Number of test files and programs whose duration is shown.
const SLOWEST = 10;

// Characters of a failure's first line in the list of failures.
const NAME_CHARS = 200;

/** @param {Progress} progress */
export function createResults(progress) {
  const total = emptyCount();
  /** @type {{ title: string, failures: string[] }[]} */
  const failed = [];
  /** @type {(Durations & { title: string })[]} */
  const took = [];
  return {
    /**
     * @param {string} title
     * @param {Count} count
     * @param {Durations} [durations]
     */
    add(title, count, durations) {
      total.passed += count.passed;
      total.failed += count.failed;
      total.skipped += count.skipped;
      for (const skip of count.skips) progress.say(`  skipped: ${skip}`);
      if (count.failed > 0) failed.push({ title, failures: count.failures });
      if (durations !== undefined) took.push({ title, ...durations });
    },

    /**
     * Adds the count that `work` resolves with, and its duration.
     * @param {string} title
     * @param {() => Promise<Count>} work
     */
    async measure(title, work) {
      const began = performance.now();
      const count = await work();
      this.add(title, count, { seconds: (performance.now() - began) / 1000 });
    },

    /**
     * Prints durations, failures and the total. Returns the exit code.
     * @param {{ run: string }} options
     */
    print({ run }) {
      console.log(describeDurations(took));
      for (const { title, failures } of failed) {
        console.log(`\n✗ ${title}`);
        for (const failure of failures) console.log(failure.replace(/^/gm, "    "));
      }
      if (failed.length > 0) console.log(["", "failed", ...namesOf(failed)].join("\n"));
      const skipped = total.skipped > 0 ? ` · ${total.skipped} skipped` : "";
      console.log(`\nlogs: ${relative(process.cwd(), run)}/logs · ${progress.elapsed()}${skipped}`);
      console.log(`${total.passed} passed, ${total.failed} failed`);
      return total.failed === 0 ? 0 : 1;
    },
  };
}

/**
 * Runs a step that counts tests: its status shows the count, and failed tests make it fail.
 * @template {{ count: Count }} T
 * @param {Progress} progress
 * @param {string} title
 * @param {(note: (text: string) => void) => Promise<T>} work
 */
export function runCounted(progress, title, work) {
  return progress.run(
    title,
    async (note) => {
      const result = await work(note);
      note(describeCount(result.count));
      return result;
    },
    ({ count }) => count.failed === 0,
  );
}

/**
 * Returns the first line of each failure: the last lines of a run are read first, and may be all that is kept.
 * @param {{ title: string, failures: string[] }[]} failed
 */
function namesOf(failed) {
  return failed.flatMap(({ title, failures }) =>
    failures
      .map((failure) => failure.trim().split("\n", 1)[0].slice(0, NAME_CHARS))
      .filter((name) => name !== "")
      .map((name) => `  ${title}: ${name}`),
  );
}

/** @param {(Durations & { title: string })[]} took */
function describeDurations(took) {
  /**
   * @param {string} name
   * @param {number} seconds
   * @param {number} [processor]
   */
  const row = (name, seconds, processor) =>
    `  ${seconds.toFixed(1).padStart(7)} s  ${processor === undefined ? "" : `${processor.toFixed(1)} s`.padStart(9)}  ${name}`;
  const suites = [...took].sort((one, other) => other.seconds - one.seconds);
  const parts = took
    .flatMap(({ title, parts: of = [] }) => of.map(([name, seconds]) => ({ name: `${name} (${title})`, seconds })))
    .sort((one, other) => other.seconds - one.seconds)
    .slice(0, SLOWEST);
  return [
    "\nduration and CPU time of the suites",
    ...suites.map(({ title, seconds, processor }) => row(title, seconds, processor)),
    ...(parts.length === 0 ? [] : ["slowest test files and programs"]),
    ...parts.map(({ name, seconds }) => row(name, seconds)),
  ].join("\n");
}
