// `npm run setup`: installs and builds everything, makes local secrets, and starts
// nothing. After it `npx wrangler dev` and `npx wrangler deploy` work by themselves.

import { dataFolder } from "./lib/places.js";
import { createProcesses } from "./lib/processes.js";
import { ensureSecrets } from "./lib/secrets.js";
import { setUp } from "./lib/set-up.js";
import { listenForEnd } from "./lib/signals.js";
import { createSteps } from "./lib/steps.js";
import { tell } from "./lib/trouble.js";

const processes = createProcesses();
listenForEnd(
  (code) => processes.stopAll().then(() => process.exit(code)),
  () => processes.killAll(),
);

try {
  const steps = createSteps();
  await setUp(steps, { owner: processes });
  ensureSecrets(dataFolder(process.env));
  steps.close();
  console.log(`Everything is built (${steps.elapsed()}). Next: npm start, or npm test.`);
} catch (error) {
  process.exitCode = tell(error);
  await processes.stopAll();
}
