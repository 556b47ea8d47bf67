// `npm run fuzz`: runs the fuzz targets one after another and prints the number of inputs each has run.
// Stops at the first finding.

import { readArguments, wholeNumber } from "../cli/lib/arguments.js";
import { FUZZ_TARGETS, buildFuzzers, fuzz, whyNoFuzzing } from "./lib/fuzzing.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { runScript } from "../cli/lib/script.js";
import { createProgress } from "../cli/lib/progress.js";
import { EXIT_USAGE, ScriptError } from "../cli/lib/errors.js";

const SECONDS = 60;

const HELP = `npm run fuzz                          runs every target for ${SECONDS} s
npm run fuzz -- --seconds 600 jwks    runs one target for longer
npm run fuzz -- --help                shows this

  targets: ${FUZZ_TARGETS.join(", ")}

Inputs that fail are in target/fuzz/artifacts. Add them to fuzz/corpus/TARGET: the native tests
replay that corpus.`;

const MOST_SECONDS = 24 * 3600;

/**
 * @param {string[]} args
 * @returns {Record<string, any>}
 */
function parseArguments(args) {
  const { values, positionals } = readArguments(args, {
    command: "npm run fuzz",
    options: { seconds: { type: "string", parse: wholeNumber(MOST_SECONDS) } },
    choices: FUZZ_TARGETS,
  });
  return { seconds: SECONDS, ...values, targets: positionals.length === 0 ? FUZZ_TARGETS : positionals };
}

await runScript(async (args, processes) => {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  await checkPrerequisites();
  const why = await whyNoFuzzing();
  if (why !== undefined) throw new ScriptError(`The fuzz targets cannot be compiled: ${why}.`, { code: EXIT_USAGE });
  const progress = createProgress();
  const folder = await progress.run("compile the fuzz targets", (note) =>
    buildFuzzers({ processes, onProgress: note }),
  );
  for (const name of options.targets) {
    await progress.run(`fuzz ${name} for ${options.seconds} s`, async (note) => {
      const executions = await fuzz(folder, name, options.seconds, { processes });
      note(`${executions} executions, no finding`);
    });
  }
  progress.close();
});
