// What a person is told when something does not work: one sentence that says
// what to do, perhaps the last lines of what failed, and an exit code.

import { isEnding } from "./signals.js";

export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
export const EXIT_PORT = 3;

export class ScriptError extends Error {
  constructor(sentence, { code = EXIT_FAILED, lines = [] } = {}) {
    super(sentence);
    this.code = code;
    this.lines = lines;
  }
}

// Runs a script's main function and turns what it throws into the above.
export async function runMain(main) {
  try {
    process.exitCode = (await main(process.argv.slice(2))) ?? process.exitCode ?? 0;
  } catch (error) {
    process.exitCode = reportError(error);
  }
}

export function reportError(error) {
  // A compiler that Ctrl-C ended is no news.
  if (isEnding()) return EXIT_FAILED;
  if (!(error instanceof ScriptError)) {
    console.error(error);
    return EXIT_FAILED;
  }
  for (const line of error.lines) console.error(`  | ${line}`);
  console.error(`portcullis: ${error.message}`);
  return error.code;
}
