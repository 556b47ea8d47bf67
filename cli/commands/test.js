// Evaluates the expected decisions.

import { existsSync } from "node:fs";

import { readArguments, usage } from "../lib/arguments.js";
import { ScriptError } from "../lib/errors.js";
import { readPolicyFile, runWithDocuments, testsOf } from "../lib/policy-tool.js";
import { createProgress } from "../lib/progress.js";
import { policyFile } from "../lib/project.js";

/** @import { Context } from "../lib/project.js" */

export const summary = "evaluates the expected decisions of gateway.tests.toml";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "evaluates each row of gateway.tests.toml with gateway.toml"],
  ["--file x.toml", "another policy, with x.tests.toml"],
  ["--help", "shows this"],
])}

The exit code is 1 if the policy has errors, a decision is not as expected, or there is no such file.`;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env, openPolicyTool }) {
  const { values } = readArguments(args, { command, options: { file: { type: "string" } } });
  if (values.help) return console.log(help(command));
  const { file = policyFile(env) } = values;
  const policy = readPolicyFile(file);
  const tests = testsOf(file);
  if (!existsSync(tests))
    throw new ScriptError(`${tests} is missing; write the expected decisions of ${file} into it.`);
  const progress = createProgress({ out: process.stderr });
  const tool = await openPolicyTool({ progress });
  progress.close();
  const { errors } = await runWithDocuments(tool, { command: "compile", policy });
  for (const line of errors) console.error(line);
  if (errors.length > 0) throw new ScriptError(`${tests} does not hold; the lines above say why.`);
  const { parse } = await import("smol-toml");
  const { test: rows = [] } = /** @type {{ test?: unknown[] }} */ (parse(policy.tests?.text ?? ""));
  return console.log(`${rows.length} decisions are as expected.`);
}
