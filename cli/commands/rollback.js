// Undoes a push.

import { readArguments, usage } from "../lib/arguments.js";
import { ScriptError } from "../lib/errors.js";
import { createProgress } from "../lib/progress.js";
import { STORE_OPTIONS, withPushedPolicies } from "../lib/pushed-policy.js";

/** @import { Context } from "../lib/project.js" */

export const summary = "reactivates the previous policy";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "reactivates the previously pushed policy, or the deployed one, on the local gateway"],
  ["--env production", "on Cloudflare in this environment of wrangler.toml, with the login of wrangler"],
  ["--remote", "on Cloudflare at the top level of wrangler.toml"],
  ["--help", "shows this"],
])}

Isolates use it within 90 seconds (locally within 30).`;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, context) {
  const { command } = context;
  const { values } = readArguments(args, { command, options: STORE_OPTIONS });
  if (values.help) return console.log(help(command));
  const progress = createProgress({ out: process.stderr });
  return withPushedPolicies(context, values, async (store) => {
    const [current, previous] = await progress.run("read the pushed policies", async () => [
      await store.get("current"),
      await store.get("previous"),
    ]);
    if (previous === undefined) {
      if (current === undefined)
        throw new ScriptError("There is no pushed policy to roll back; the built-in policy is in use.");
      await progress.run("delete the pushed policy", () => store.remove("current"));
      progress.close();
      return console.log("The built-in policy is in use again.");
    }
    await progress.run("write the policy", async () => {
      await store.put("current", previous);
      if (current !== undefined) await store.put("previous", current);
    });
    progress.close();
    return console.log("The previous policy is in use again.");
  });
}
