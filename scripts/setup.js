// `npm run setup`: installs and builds everything, makes local secrets, and starts
// nothing. After it `npx wrangler dev` and `npx wrangler deploy` work by themselves.

import { readArguments } from "./lib/arguments.js";
import { dataFolder } from "./lib/places.js";
import { createProcesses } from "./lib/processes.js";
import { ensureSecrets } from "./lib/secrets.js";
import { setUp } from "./lib/set-up.js";
import { listenForEnd } from "./lib/signals.js";
import { createSteps } from "./lib/steps.js";
import { tell } from "./lib/trouble.js";

const HELP = `npm run setup              installs and compiles everything, makes local secrets, starts nothing
npm run setup -- --help    shows this

Everything lies in the checkout: node_modules, .tools, target, build, .data and .dev.vars.
DATA_DIR names another folder than .data for the secrets.`;

const processes = createProcesses();
const steps = createSteps();
listenForEnd(
  (code) => {
    steps.freeze();
    return processes.stopAll().then(() => process.exit(code));
  },
  () => processes.killAll(),
);

async function main(args) {
  const { values } = readArguments(args, { command: "npm run setup" });
  if (values.help) return console.log(HELP);
  await setUp(steps, { owner: processes });
  ensureSecrets(dataFolder(process.env));
  steps.close();
  console.log(`Everything is built (${steps.elapsed()}). Next: npm start, or npm test.`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  process.exitCode = tell(error);
  await processes.stopAll();
}
