// The build command of wrangler.toml: builds the worker into build/, optimised for a deployment and
// quickly for `wrangler dev`. EDGE_PROFILE sets another cargo profile.
//
// While a build runs, `wrangler dev` holds all requests; after a failed build it holds them for ever.
// So a failed rebuild prints why and exits with 0: the previous worker is still in build/ and serves.

import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { readArguments } from "../cli/lib/arguments.js";
import { buildEdge } from "./lib/edge-build.js";
import { PolicyError } from "../cli/lib/policy-tool.js";
import { policyFile } from "../cli/lib/project.js";
import { BUILD } from "./lib/paths.js";
import { missingCompilers } from "./lib/prerequisites.js";
import { isCurrent, worker } from "./lib/programs.js";
import { builtLine, failedLines, staleLine } from "../cli/lib/reload.js";
import { runScript } from "../cli/lib/script.js";
import { ScriptError } from "../cli/lib/errors.js";

const HELP = `npm run build              builds the worker into build/, as npm start runs it
npm run build -- --help    shows this

  GATEWAY_CONFIG   policy of the worker (gateway.toml)
  EDGE_PROFILE     cargo profile: local, or worker as wrangler deploy uploads it (local)`;

// Milliseconds between two progress lines; an optimised build takes a minute.
const REPORT_MS = 5_000;

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

await runScript(async (args, processes) => {
  const { values } = readArguments(args, { command: "npm run build" });
  if (values.help) return console.log(HELP);
  const profile = profileFor(process.env);
  const began = Date.now();
  let reported = began;
  /** @param {string} note */
  const onProgress = (note) => {
    if (note === "" || Date.now() - reported < REPORT_MS) return;
    reported = Date.now();
    console.log(`worker: ${note} (${profile}, ${Math.round((reported - began) / 1000)} s)`);
  };
  try {
    await buildEdge({ profile, policy: policyFile(process.env), processes, onProgress });
  } catch (error) {
    if (process.env.WRANGLER_COMMAND !== "dev" || !(error instanceof ScriptError) || !isServing()) throw error;
    for (const line of failedLines(error, { isPolicy: error instanceof PolicyError })) console.log(line);
    return undefined;
  }
  if (!isCurrent(worker(profile))) {
    const [missing] = await missingCompilers();
    if (missing !== undefined) console.log(staleLine(missing.what));
  }
  if (process.env.WRANGLER_COMMAND === "dev") writeFileSync(SESSION, String(process.ppid));
  return console.log(builtLine(profile, (Date.now() - began) / 1000));
});
