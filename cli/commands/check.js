// Checks a policy and prints its route table, or decides about one request.

import { ORIGIN_OPTIONS, readArguments, seeHelp, usage, usageError } from "../lib/arguments.js";
import { ENVIRONMENT_OPTION, environmentFaults, environmentOf } from "../lib/environments.js";
import { parseJson } from "../lib/files.js";
import { printOutput, readPolicyFile, runWithDocuments } from "../lib/policy-tool.js";
import { createProgress } from "../lib/progress.js";
import { readWranglerFile } from "../lib/project-policy.js";
import { policyFile } from "../lib/project.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { Context } from "../lib/project.js"
 */

export const summary = "checks the policy, prints its routes, or decides about a request";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "checks gateway.toml and gateway.tests.toml, and prints the route table"],
  ["GET /api/v1/users/7", "prints who may call the route"],
  ["GET /api/v1/users/7 --roles user", "decides for this caller, here and now"],
  ["--env production", "also checks this environment of wrangler.toml for a deployment"],
  ["--file other.toml …", "another policy (default: GATEWAY_CONFIG, gateway.toml)"],
  ["--help", "shows this"],
])}

  --user 7, --roles a,b, --scopes a,b, --claim org/tenant=shop, --issuer NAME
                the caller
  --country DE, --address 192.0.2.7, --host shop.example.com
                the client's country and address, and the request's host, for rules that ask for them

The exit code is 1 if the policy has errors, a decision is not as expected, the environment cannot be deployed, or
the request is denied.`;

/**
 * @param {string} text
 * @param {string} flag
 */
const names = (text, flag) => {
  const list = text.split(",").filter(Boolean);
  if (list.length === 0) throw usageError(`${flag} needs a name.`);
  return list;
};

/**
 * Parses name=value, where the name may be a path with slashes and the value may be JSON.
 * @param {string} text
 * @param {string} flag
 * @returns {[string[], unknown]}
 */
const claim = (text, flag) => {
  const at = text.indexOf("=");
  if (at < 1) throw usageError(`${flag} needs a claim as name=value.`);
  const value = text.slice(at + 1);
  const parsed = parseJson(value);
  return [text.slice(0, at).split("/"), parsed === undefined ? value : parsed];
};

/** @type {Record<string, Option>} */
const OPTIONS = {
  file: { type: "string" },
  user: { type: "string" },
  roles: { type: "string", parse: names },
  scopes: { type: "string", parse: names },
  claim: { type: "string", parse: claim, multiple: true },
  issuer: { type: "string" },
  ...ENVIRONMENT_OPTION,
  ...ORIGIN_OPTIONS,
};

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env, openPolicyTool, projectFolder }) {
  const { values, positionals } = readArguments(args, { command, options: OPTIONS, most: 2 });
  if (values.help) return console.log(help(command));
  const {
    file = policyFile(env),
    env: environment,
    claim: claims,
    country,
    address,
    host,
    help: _,
    ...caller
  } = values;
  const origin = { country, address, host, now_ms: Date.now() };
  if (claims !== undefined) caller.claims = claims;
  const [method, path] = positionals;
  const isTable = positionals.length === 0 && Object.keys(values).every((name) => name === "file" || name === "env");
  if (!isTable && path === undefined)
    throw usageError(`A method and a path are needed, such as GET /api/v1/users/7; ${seeHelp(command)}`);
  if (!isTable && environment !== undefined) throw usageError(`--env is for the whole policy; ${seeHelp(command)}`);
  const wrangler = environment === undefined ? {} : await readWranglerFile(projectFolder());
  if (environment !== undefined) environmentOf(wrangler, environment);
  const policy = readPolicyFile(file);
  const progress = createProgress({ out: process.stderr });
  const tool = await openPolicyTool({ progress });
  progress.close();
  const asked = isTable ? "table" : { decide: { method, path, caller, origin } };
  const output = await runWithDocuments(tool, { command: asked, policy });
  const code = printOutput(output);
  if (environment === undefined || output.errors.length > 0) return code;
  const { out } = await runWithDocuments(tool, { command: "compile", policy });
  const faults = environmentFaults(wrangler, environment, JSON.parse(out));
  if (faults.length === 0) console.log(`\nwrangler.toml: ${environment} can be deployed.`);
  for (const fault of faults) console.error(fault);
  return faults.length === 0 ? code : 1;
}
