// Activates a policy without a deploy.

import { readArguments, usage, withArguments } from "../lib/arguments.js";
import { policyFaults } from "../lib/environments.js";
import { ScriptError } from "../lib/errors.js";
import { readPolicyFile, runWithDocuments } from "../lib/policy-tool.js";
import { createProgress } from "../lib/progress.js";
import { policyFile } from "../lib/project.js";
import { readWranglerFile } from "../lib/project-policy.js";
import { STORE_OPTIONS, withPushedPolicies } from "../lib/pushed-policy.js";

/**
 * @import { Context } from "../lib/project.js"
 */

export const summary = "activates the policy without a deploy";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "validates gateway.toml and activates it on the local gateway"],
  ["--env production", "on Cloudflare in this environment of wrangler.toml, with the login of wrangler"],
  ["--remote", "on Cloudflare at the top level of wrangler.toml"],
  ["--file x.toml", "another file"],
  ["--help", "shows this"],
])}

Isolates use it within 90 seconds (locally within 30). GET /status shows the version in use, and why
a newer one is not used.`;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, context) {
  const { command, env, openPolicyTool, projectFolder } = context;
  const { values } = readArguments(args, {
    command,
    options: { ...STORE_OPTIONS, file: { type: "string" } },
  });
  if (values.help) return console.log(help(command));
  const { file = policyFile(env) } = values;
  const progress = createProgress({ out: process.stderr });
  return withPushedPolicies(context, values, async (store) => {
    const tool = await openPolicyTool({ progress });
    const { out: next, errors } = await runWithDocuments(tool, { command: "compile", policy: readPolicyFile(file) });
    const isRemote = values.remote || values.env !== undefined;
    const isChecked = isRemote && errors.length === 0;
    const unsafe = isChecked ? policyFaults(await readWranglerFile(projectFolder()), values.env, JSON.parse(next)) : [];
    for (const line of [...errors, ...unsafe]) console.error(line);
    if (errors.length + unsafe.length > 0)
      throw new ScriptError(`${file} is not pushed; the lines above say what to change.`);
    const before = await progress.run("read the current policy", () => store.get("current"));
    if (before === next) {
      progress.close();
      return console.log("The policy has not changed since the last push.");
    }
    await progress.run("write the policy", async () => {
      if (before !== undefined) await store.put("previous", before);
      await store.put("current", next);
    });
    progress.close();
    const { env: environment, remote } = values;
    const flags = environment !== undefined ? `--env ${environment}` : remote ? "--remote" : "";
    const undo = command.replace(/push$/, "rollback");
    return console.log(`${file} is pushed. To undo this: ${flags === "" ? undo : `${withArguments(undo)} ${flags}`}`);
  });
}
