// The policy of a project and the variables of its Worker, as commands need them.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { EXIT_USAGE, ScriptError } from "./errors.js";
import { readIfThere } from "./files.js";
import { compileForWorker, readPolicyFile } from "./policy-tool.js";
import { policyFile } from "./project.js";
import { parseVars } from "./vars.js";

/**
 * @import { Context } from "./project.js"
 * @import { PolicyDocument } from "./policy-document.js"
 */

/**
 * Checks the policy and returns it. Throws a PolicyError.
 * @param {Context} context
 * @returns {Promise<PolicyDocument>}
 */
export async function readCheckedPolicy({ env, openPolicyTool }) {
  const { document } = await compileForWorker(await openPolicyTool({}), readPolicyFile(policyFile(env)));
  return JSON.parse(document);
}

/**
 * Returns wrangler.toml as an object.
 * @param {string} folder
 * @returns {Promise<Record<string, any>>}
 */
export async function readWranglerFile(folder) {
  const { parse } = await import("smol-toml");
  try {
    return parse(readFileSync(join(folder, "wrangler.toml"), "utf8"));
  } catch (error) {
    const [line] = /** @type {Error} */ (error).message.split("\n");
    throw new ScriptError(`wrangler.toml cannot be read: ${line}`, { code: EXIT_USAGE });
  }
}

/**
 * Returns the local secrets.
 * @param {string} folder
 */
export const readLocalVars = (folder) => parseVars(readIfThere(join(folder, ".dev.vars")) ?? "");
