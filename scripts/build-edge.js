// The build command of wrangler.toml: builds the worker into build/, optimised when
// wrangler deploys and quickly when it runs locally. EDGE_PROFILE chooses a cargo
// profile by hand.
//
// While `wrangler dev` waits for a build it holds all requests, and after one that failed it
// holds them for good. So a build that fails while it runs says why and counts as done: what
// was built last is still in build/, and goes on serving.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { readArguments } from "./lib/arguments.js";
import { PolicyError, buildEdge } from "./lib/edge-build.js";
import { BUILD } from "./lib/paths.js";
import { createProcesses } from "./lib/processes.js";
import { builtLine, failedLines } from "./lib/reload.js";
import { listenForEnd } from "./lib/signals.js";
import { ScriptError, runMain } from "./lib/errors.js";

const HELP = `npm run build              compiles the worker into build/, as npm start runs it
npm run build -- --help    shows this

  GATEWAY_CONFIG   policy to build it with (gateway.toml)
  EDGE_PROFILE     worker builds what wrangler deploy would upload (local)`;

// Milliseconds between two progress lines; an optimised build takes a minute.
const TELL_MS = 5_000;

// Holds the process id of the wrangler for which build/ was built last.
const SESSION = join(BUILD, "session");

/**
 * Returns the cargo profile; wrangler says in WRANGLER_COMMAND what the build is for.
 * @param {NodeJS.ProcessEnv} env
 */
function profileFor(env) {
  if (env.EDGE_PROFILE) return env.EDGE_PROFILE;
  const command = env.WRANGLER_COMMAND ?? "dev";
  return command === "dev" ? "local" : "worker";
}

// Whether this wrangler already serves an earlier build.
function isServing() {
  return existsSync(SESSION) && readFileSync(SESSION, "utf8") === String(process.ppid);
}

const processes = createProcesses();
listenForEnd((code) => processes.stopAll().then(() => process.exit(code)));

await runMain(async (args) => {
  const { values } = readArguments(args, { command: "npm run build" });
  if (values.help) return console.log(HELP);
  const profile = profileFor(process.env);
  const began = Date.now();
  let told = began;
  /** @param {string} note */
  const onProgress = (note) => {
    if (note === "" || Date.now() - told < TELL_MS) return;
    told = Date.now();
    console.log(`worker: ${note} (${profile}, ${Math.round((told - began) / 1000)} s)`);
  };
  try {
    await buildEdge({ profile, processes, onProgress });
  } catch (error) {
    if (process.env.WRANGLER_COMMAND !== "dev" || !(error instanceof ScriptError) || !isServing()) throw error;
    for (const line of failedLines(error, { isPolicy: error instanceof PolicyError })) console.log(line);
    return undefined;
  }
  if (process.env.WRANGLER_COMMAND === "dev") writeFileSync(SESSION, String(process.ppid));
  return console.log(builtLine(profile, (Date.now() - began) / 1000));
});
