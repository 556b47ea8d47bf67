// The build command of a project's wrangler.toml: copies the prebuilt Worker into .portcullis/worker and adds
// the checked policy.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { readArguments, usage } from "../lib/arguments.js";
import { policyToolFolder, workerFolder } from "../lib/package.js";
import { PolicyError, compileForWorker, loadPolicyTool, readPolicyFile } from "../lib/policy-tool.js";
import { PROJECT_FOLDER, SERVING, policyFile } from "../lib/project.js";
import { builtLine, failedLines } from "../lib/reload.js";
import { copyWorker, writePolicy } from "../lib/worker.js";

/** @import { Context } from "../lib/project.js" */

export const summary = "writes the Worker with the policy; wrangler runs it";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", `checks the policy and writes the Worker into ${PROJECT_FOLDER}/worker`],
  ["--help", "shows this"],
])}

  GATEWAY_CONFIG   policy of the Worker (gateway.toml)

wrangler runs it before dev and deploy; it is the build command of wrangler.toml.`;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env }) {
  const { values } = readArguments(args, { command });
  if (values.help) return console.log(help(command));
  const began = Date.now();
  try {
    await buildWorker(env);
  } catch (error) {
    // After a failed build, `wrangler dev` would hold all requests. The previous policy is still there and serves.
    if (env[SERVING] === undefined || !(error instanceof PolicyError)) throw error;
    for (const line of failedLines(error, { isPolicy: true })) console.log(line);
    return undefined;
  }
  return console.log(builtLine("worker", (Date.now() - began) / 1000));
}

/**
 * Writes the Worker with the checked policy.
 * @param {NodeJS.ProcessEnv} env
 */
export async function buildWorker(env) {
  const folder = join(PROJECT_FOLDER, "worker");
  mkdirSync(folder, { recursive: true });
  copyWorker(workerFolder(), folder);
  const tool = await loadPolicyTool(policyToolFolder());
  writePolicy(folder, await compileForWorker(tool, readPolicyFile(policyFile(env))));
}
