// The files of one generation of processes: the Worker's modules with its policy, and the configurations. A reload makes
// another generation, so that the running processes keep theirs.

import { cpSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { ScriptError } from "../lib/errors.js";
import { policyToolFolder, workerFolder } from "../lib/package.js";
import { compileForWorker, loadPolicyTool, readPolicyFile } from "../lib/policy-tool.js";
import { copyWorker, modulesOf, readPolicyOf, writePolicy } from "../lib/worker.js";
import { edgeConfiguration, ownerConfiguration } from "./config.js";
import { servingFaults } from "./serving-faults.js";

/**
 * @import { Project, Settings } from "./settings.js"
 * @typedef {{ edge: string, owner: string, env: NodeJS.ProcessEnv }} Generation files of configurations
 */

const WORKERS = fileURLToPath(new URL("workers", import.meta.url));

// Modules of each kind of process before those of the Worker; the first is the main module.
const EDGE_MODULES = ["edge.js", "client-address.js"];
const OWNER_MODULES = ["owner.js", "counter.js"];

const PRIVATE_FOLDER = 0o700;
const PRIVATE_FILE = 0o600;

/**
 * Writes a generation into `folder`. Throws a ScriptError for a policy with mistakes, and for one that must not be served.
 * @param {string} folder
 * @param {Settings & Project} settings
 * @param {{ env: NodeJS.ProcessEnv, names: string[], objects: string }} given
 * @returns {Promise<Generation>}
 */
export async function writeGeneration(folder, settings, { env, names, objects }) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true, mode: PRIVATE_FOLDER });
  const from = settings.worker ?? workerFolder();
  const worker = join(folder, "worker");
  if (settings.policy === undefined) {
    cpSync(from, worker, { recursive: true });
  } else {
    copyWorker(from, worker);
    const tool = await loadPolicyTool(policyToolFolder());
    writePolicy(worker, await compileForWorker(tool, readPolicyFile(settings.policy)));
  }
  const faults = servingFaults(readPolicyOf(worker), settings);
  if (faults.length > 0)
    throw new ScriptError("The policy is not served; the lines say what to change.", { lines: faults });
  const modules = (/** @type {string[]} */ own) => [
    ...own.map((name) => ({ name, path: join(WORKERS, name) })),
    ...modulesOf(worker),
  ];
  const write = (/** @type {string} */ name, /** @type {string} */ text) => {
    const file = join(folder, name);
    writeFileSync(file, text, { mode: PRIVATE_FILE });
    return file;
  };
  return {
    env,
    edge: write(
      "edge.capnp",
      edgeConfiguration(settings, { modules: modules(EDGE_MODULES), extensions: WORKERS, names }),
    ),
    owner: write("owner.capnp", ownerConfiguration(settings, { modules: modules(OWNER_MODULES), objects, names })),
  };
}
