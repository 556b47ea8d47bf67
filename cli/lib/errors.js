// Errors that a script shows to its user: one sentence that says what to do, the last lines of the
// command that failed if there are any, and an exit code.

import { isEnding } from "./signals.js";

const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_PORT = 3;

/** An error whose message is shown without a stack trace. `lines` are shown above it. */
export class ScriptError extends Error {
  /**
   * @param {string} sentence
   * @param {{ code?: number, lines?: string[] }} [options]
   */
  constructor(sentence, { code = EXIT_FAILED, lines = [] } = {}) {
    super(sentence);
    this.code = code;
    this.lines = lines;
  }
}

/**
 * Runs a script's main function. Its result, if it is a number, is the exit code.
 * @param {(args: string[]) => unknown} main
 */
export async function runMain(main) {
  try {
    const code = await main(process.argv.slice(2));
    process.exitCode = typeof code === "number" ? code : (process.exitCode ?? 0);
  } catch (error) {
    process.exitCode = reportError(error);
  }
}

/**
 * Prints an error and returns the exit code.
 * @param {unknown} error
 * @returns {number}
 */
export function reportError(error) {
  // A command that Ctrl-C ended is not a failure.
  if (isEnding()) return EXIT_FAILED;
  if (!(error instanceof ScriptError)) {
    console.error(error);
    return EXIT_FAILED;
  }
  for (const line of error.lines) console.error(`  | ${line}`);
  console.error(`portcullis: ${error.message}`);
  return error.code;
}

/**
 * Returns the code of a system error, such as "EEXIST".
 * @param {unknown} error
 */
export function errorCode(error) {
  return error instanceof Error && "code" in error ? error.code : undefined;
}
