// `npm run fuzz`: runs the fuzz targets one after another, and says how many inputs
// each has seen. A finding ends it with the input that makes it.

import { FUZZ_TARGETS, buildFuzzers, fuzz, whyNoFuzzing } from "./lib/fuzzing.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { createProcesses } from "./lib/processes.js";
import { listenForEnd } from "./lib/signals.js";
import { createSteps } from "./lib/steps.js";
import { EXIT_SETTING, Trouble, runMain } from "./lib/trouble.js";

const SECONDS = 60;

const HELP = `npm run fuzz                          every target for ${SECONDS} s
npm run fuzz -- --seconds 600 jwks    one of them for longer
npm run fuzz -- --help                shows this

  targets: ${FUZZ_TARGETS.join(", ")}

What is found lies in target/fuzz/artifacts. Put it into fuzz/corpus/TARGET, where the
native tests read it from then on.`;

function parseArguments(args) {
  const options = { help: false, seconds: SECONDS, targets: [] };
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index];
    if (arg === "--help" || arg === "-h") options.help = true;
    else if (arg === "--seconds") {
      options.seconds = Number(args[(index += 1)]);
      if (!Number.isInteger(options.seconds) || options.seconds < 1)
        throw new Trouble("--seconds needs a whole number of at least 1.", { code: EXIT_SETTING });
    } else if (FUZZ_TARGETS.includes(arg)) options.targets.push(arg);
    else
      throw new Trouble(`${JSON.stringify(arg)} is not known; see: npm run fuzz -- --help`, {
        code: EXIT_SETTING,
      });
  }
  if (options.targets.length === 0) options.targets = FUZZ_TARGETS;
  return options;
}

const processes = createProcesses();
listenForEnd(
  (code) => processes.stopAll().then(() => process.exit(code)),
  () => processes.killAll(),
);

await runMain(async (args) => {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  await checkPrerequisites();
  const why = await whyNoFuzzing();
  if (why !== undefined) throw new Trouble(`Fuzzing needs a C++ compiler, and ${why}.`, { code: EXIT_SETTING });
  const steps = createSteps();
  const folder = await steps.run("compile the fuzz targets", (note) =>
    buildFuzzers({ owner: processes, onProgress: note }),
  );
  for (const name of options.targets) {
    await steps.run(`fuzz ${name} for ${options.seconds} s`, async (note) => {
      const executions = await fuzz(folder, name, options.seconds, { owner: processes });
      note(`${executions} executions, no finding`);
    });
  }
  steps.close();
});
