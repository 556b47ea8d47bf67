// Deploys the gateway, after a check of what would not work on Cloudflare.

import { spawn } from "node:child_process";

import { readArguments, usage } from "../lib/arguments.js";
import { deploymentFaults } from "../lib/environments.js";
import { ScriptError } from "../lib/errors.js";
import { secretsOf } from "../lib/policy-document.js";
import { readCheckedPolicy, readWranglerFile } from "../lib/project-policy.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { PolicyDocument } from "../lib/policy-document.js"
 * @import { Context, Wrangler } from "../lib/project.js"
 */

export const summary = "checks the policy and deploys the gateway";

/** @param {string} command */
export const help = (command) =>
  `${usage(command, [
    ["", "checks policy and wrangler.toml, then runs wrangler deploy"],
    ["--dry-run", "builds without an upload, then lists what is missing and the secrets that the policy needs"],
    ["--env staging", "an environment of wrangler.toml"],
    ["--help", "shows this"],
  ])}

The exit code is 1 if something is missing, also of --dry-run.`;

/** @type {Record<string, Option>} */
const OPTIONS = { "dry-run": { type: "boolean" }, env: { type: "string" } };

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, context) {
  const { command, env, findWrangler } = context;
  const { values } = readArguments(args, { command, options: OPTIONS });
  if (values.help) return console.log(help(command));
  const wrangler = findWrangler();
  const policy = await readCheckedPolicy(context);
  const faults = deploymentFaults(await readWranglerFile(wrangler.folder), values.env, policy);
  const isDry = values["dry-run"] ?? false;
  if (faults.length > 0 && !isDry) {
    for (const fault of faults) console.error(fault);
    throw new ScriptError("The gateway is not deployed; the lines above say what to change.");
  }
  const rest = [...(isDry ? ["--dry-run"] : []), ...(values.env === undefined ? [] : ["--env", values.env])];
  const code = await runDeploy(wrangler, rest, env);
  if (!isDry || code !== 0) return code;
  // After wrangler's long output.
  console.log(["", ...secretLines(policy, values.env)].join("\n"));
  for (const fault of faults) console.error(fault);
  if (faults.length === 0) return 0;
  const missing = faults.length === 1 ? "1 thing is missing" : `${faults.length} things are missing`;
  throw new ScriptError(`${missing}; deploy would refuse.`);
}

/**
 * @param {Wrangler} wrangler
 * @param {string[]} rest
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<number>} its exit code
 */
function runDeploy(wrangler, rest, env) {
  return new Promise((resolve) => {
    // wrangler may ask for a login.
    const child = spawn(wrangler.node, [wrangler.script, "deploy", ...rest], {
      cwd: wrangler.folder,
      env: { ...env, ...wrangler.env },
      stdio: "inherit",
    });
    child.once("error", () => resolve(1));
    child.once("close", (code) => resolve(code ?? 1));
  });
}

/**
 * Returns which secrets a policy needs. Only a login could tell which of them the deployed Worker has.
 * @param {PolicyDocument} policy
 * @param {string | undefined} environment
 */
function secretLines(policy, environment) {
  const names = secretsOf(policy).map(({ name }) => name);
  const flag = environment === undefined ? "--remote" : `--env ${environment}`;
  return names.length === 0
    ? []
    : [
        `secrets needed: ${names.join(", ")} (not checked here; after npx wrangler login: npx portcullis secrets ${flag})`,
      ];
}
