// `npm run fuzz:api`: checks both services against their OpenAPI documents with schemathesis, with more
// requests than `npm test` makes.

import { join } from "node:path";
import { spawnSync } from "node:child_process";

import { readArguments, wholeNumber } from "../cli/lib/arguments.js";
import { NODE, ROOT } from "./lib/paths.js";
import { canInstallPython, hasPython, installPython } from "./lib/install.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { EXIT_USAGE, ScriptError, runMain } from "../cli/lib/errors.js";

/** @import { Option } from "../cli/lib/arguments.js" */

const EXAMPLES = 200;

const HELP = `npm run fuzz:api                     ${EXAMPLES} examples per operation
npm run fuzz:api -- --examples 1000  more examples
npm run fuzz:api -- --help           shows this

Starts both services and the gateway on free ports, with a data directory of their own. Prints each
finding with the request that causes it.`;

const MOST_EXAMPLES = 1_000_000;

/**
 * @param {string[]} args
 * @returns {Record<string, any>}
 */
function parseArguments(args) {
  /** @type {Record<string, Option>} */
  const options = { examples: { type: "string", parse: wholeNumber(MOST_EXAMPLES) } };
  return { examples: EXAMPLES, ...readArguments(args, { command: "npm run fuzz:api", options }).values };
}

await runMain(async (args) => {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  await checkPrerequisites();
  if (!hasPython()) {
    if (!(await canInstallPython()))
      throw new ScriptError("Fuzzing the services needs Python 3.11 or newer with venv.", { code: EXIT_USAGE });
    await installPython();
  }
  const { status } = spawnSync(
    NODE,
    ["--test", "--test-reporter=spec", join(ROOT, "tests", "stack", "openapi.test.js")],
    { stdio: "inherit", env: { ...process.env, FUZZ_EXAMPLES: String(options.examples) } },
  );
  process.exitCode = status ?? 1;
});
