// The build command of wrangler.toml: builds the worker into build/, optimised when
// wrangler deploys and quickly when it runs locally. EDGE_PROFILE chooses a cargo
// profile by hand.

import { buildEdge } from "./lib/edge-build.js";
import { createProcesses } from "./lib/processes.js";
import { listenForEnd } from "./lib/signals.js";
import { runMain } from "./lib/trouble.js";

// Between two lines that say how far it is; an optimised build takes a minute.
const TELL_MS = 5_000;

// wrangler tells its build command what it is for.
function profileFor(env) {
  if (env.EDGE_PROFILE) return env.EDGE_PROFILE;
  const command = env.WRANGLER_COMMAND ?? "dev";
  return command === "dev" ? "local" : "worker";
}

const processes = createProcesses();
listenForEnd((code) => processes.stopAll().then(() => process.exit(code)));

await runMain(async () => {
  const profile = profileFor(process.env);
  const began = Date.now();
  let told = began;
  const onProgress = (note) => {
    if (note === "" || Date.now() - told < TELL_MS) return;
    told = Date.now();
    console.log(`worker: ${note} (${profile}, ${Math.round((told - began) / 1000)} s)`);
  };
  await buildEdge({ profile, owner: processes, onProgress });
  console.log(`worker built (${profile}, ${((Date.now() - began) / 1000).toFixed(1)} s)`);
});
