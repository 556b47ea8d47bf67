// Deploys the gateway, after a check of what would not work on Cloudflare.

import { spawn } from "node:child_process";

import { readArguments, usage } from "../lib/arguments.js";
import { deploymentFaults } from "../lib/environments.js";
import { ScriptError } from "../lib/errors.js";
import { readCheckedPolicy, readWranglerFile } from "../lib/project-policy.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { Context } from "../lib/project.js"
 */

export const summary = "checks the policy and deploys the gateway";

/** @param {string} command */
export const help = (command) =>
  `${usage(command, [
    ["", "checks policy and wrangler.toml, then runs wrangler deploy"],
    ["--dry-run", "builds without an upload, and only notes what would not work"],
    ["--env staging", "an environment of wrangler.toml"],
    ["--help", "shows this"],
  ])}`;

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
  for (const fault of faults) console.error(fault);
  if (faults.length > 0 && !values["dry-run"])
    throw new ScriptError("The gateway is not deployed; the lines above say what to change.");
  const rest = [
    ...(values["dry-run"] ? ["--dry-run"] : []),
    ...(values.env === undefined ? [] : ["--env", values.env]),
  ];
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
