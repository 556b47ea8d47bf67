// Deploys the gateway, after a check of what would not work on Cloudflare.

import { spawn } from "node:child_process";

import { readArguments, usage } from "../lib/arguments.js";
import { DEVELOPMENT_ISSUER } from "../lib/development-issuer.js";
import { environmentFaults } from "../lib/environments.js";
import { ScriptError } from "../lib/errors.js";
import { isLoopback, upstreamVariable } from "../lib/policy-document.js";
import { readCheckedPolicy, readWranglerFile } from "../lib/project-policy.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { PolicyDocument } from "../lib/policy-document.js"
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

const ZERO_ID = /^[0-]*$/;

/**
 * Returns what would not work in a deployment.
 * @param {PolicyDocument} policy
 * @param {Record<string, any>} wrangler wrangler.toml
 * @param {string} [environment]
 */
export function faultsOfDeployment(policy, wrangler, environment) {
  if (environment !== undefined) return environmentFaults(wrangler, environment, policy);
  const { issuers = {}, upstreams = {} } = policy;
  const faults = [];
  for (const [name, { issuer }] of Object.entries(issuers)) {
    if (name === DEVELOPMENT_ISSUER || isLoopback(issuer))
      faults.push(`issuer ${name} is for development; replace it in the policy by that of your users`);
  }
  for (const [name, { url, targets = [] }] of Object.entries(upstreams)) {
    const given = wrangler.vars?.[upstreamVariable(name)] ?? url;
    if ([given, ...targets.map((target) => target.url)].some((one) => one !== undefined && isLoopback(one)))
      faults.push(`upstream ${name} is on this machine; set ${upstreamVariable(name)} under vars in wrangler.toml`);
  }
  for (const { binding, id } of wrangler.kv_namespaces ?? []) {
    if (ZERO_ID.test(id ?? ""))
      faults.push(`KV namespace ${binding} has no id; run: npx wrangler kv namespace create ${binding}`);
  }
  if (wrangler.vars?.DEVELOPMENT !== undefined) faults.push("DEVELOPMENT must not be set in wrangler.toml");
  return faults;
}

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
  const faults = faultsOfDeployment(policy, await readWranglerFile(wrangler.folder), values.env);
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
