// The secrets that the policy needs: which are there, and new values for those that are not.

import { readArguments, usage } from "../lib/arguments.js";
import { makeAssertionKeys } from "../lib/assertion-keys.js";
import { ENVIRONMENT_OPTION, environmentOf } from "../lib/environments.js";
import { runCommand } from "../lib/commands.js";
import { parseJson } from "../lib/files.js";
import { secretsOf } from "../lib/policy-document.js";
import { readCheckedPolicy, readLocalVars, readWranglerFile } from "../lib/project-policy.js";
import { ensureLocalSecrets } from "./dev.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { Context } from "../lib/project.js"
 */

export const summary = "lists the secrets that the policy needs, and makes missing ones";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "lists the secrets that the policy needs, and whether .dev.vars has them"],
  ["--create", "generates the missing keys of assertions into .dev.vars"],
  ["--remote", "the same for the deployed Worker, with the login of wrangler"],
  ["--env staging", "the same for an environment of wrangler.toml"],
  ["--help", "shows this"],
])}

No value is printed. A service that checks assertions needs the value too: read it in .dev.vars; for a deployed
Worker, set the service's value yourself: wrangler secret put NAME.
The exit code is 1 if a secret is missing.`;

/** @type {Record<string, Option>} */
const OPTIONS = {
  create: { type: "boolean" },
  remote: { type: "boolean" },
  ...ENVIRONMENT_OPTION,
};

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, context) {
  const { command, processes, projectFolder, findWrangler } = context;
  const { values } = readArguments(args, { command, options: OPTIONS });
  if (values.help) return console.log(help(command));
  const folder = projectFolder();
  const isRemote = values.remote || values.env !== undefined;
  if (values.env !== undefined) environmentOf(await readWranglerFile(folder), values.env);
  const policy = await readCheckedPolicy(context);
  const needed = secretsOf(policy);
  const environment = values.env === undefined ? [] : ["--env", values.env];
  /**
   * @param {string[]} rest
   * @param {string} [input]
   */
  const secret = (rest, input) => {
    const wrangler = findWrangler();
    return runCommand(wrangler.node, [wrangler.script, "secret", ...rest, ...environment], {
      ...{ cwd: folder, processes, input },
      // The list is a line of its log.
      env: { ...wrangler.env, CI: "true", WRANGLER_LOG: "log" },
      failure: "The Worker's secrets cannot be reached",
    });
  };
  if (values.create && !isRemote) ensureLocalSecrets(folder, policy);
  const listed = isRemote
    ? (parseJson(await secret(["list", "--format", "json"])) ?? []).map((/** @type {any} */ { name }) => name)
    : Object.keys(readLocalVars(folder));
  let missing = 0;
  for (const { name, algorithm } of needed) {
    let state = listed.includes(name) ? "present" : "missing";
    if (state === "missing" && values.create && isRemote && algorithm !== undefined) {
      await secret(["put", name], makeAssertionKeys(algorithm));
      state = "created";
    }
    if (state === "missing") missing += 1;
    console.log(`${state.padEnd(8)} ${name}`);
  }
  return missing === 0 ? 0 : 1;
}
