// Makes the npm packages: copies their files, adds what is built, and packs them.

import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ScriptError } from "../../cli/lib/errors.js";
import { copyWorker } from "../../cli/lib/worker.js";
import { runCommand } from "./cargo.js";
import { buildEdge } from "./edge-build.js";
import { BUILD, ROOT } from "./paths.js";
import { buildPolicyTool, preparePolicyTool } from "./policy-tool.js";
import { DEPLOYED } from "./profiles.js";
import { POLICY_FOLDER } from "./programs.js";

/**
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Progress } from "../../cli/lib/progress.js"
 * @typedef {{ progress: Progress, processes: Processes }} Context
 * @typedef {{ worker: string, policy: string }} Built folders of the Worker's modules, and of the policy tool
 * @typedef {{ name: string, version: string, file: string, size: number, unpackedSize: number, entryCount: number, files: { path: string, size: number }[] }} Packed
 */

const OUT = join(BUILD, "packages");

/**
 * Folders of the packages' sources, by name.
 * @type {Record<string, string>}
 */
export const PACKAGES = {
  portcullis: "cli",
  "create-portcullis": "create",
  "portcullis-assertion": join("packages", "assertion-node"),
};

// In every package.
const LICENSES = ["LICENSE", "LICENSE-APACHE", "LICENSE-MIT"];

/**
 * Returns a manifest with the version of the checkout.
 * @param {string} folder
 */
export function manifestOf(folder) {
  const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  return { ...JSON.parse(readFileSync(join(ROOT, folder, "package.json"), "utf8")), version };
}

/**
 * Builds all packages, with the Worker as it is deployed, and the policy tool by the same profile.
 * @param {Context} context
 */
export async function packAll({ progress, processes }) {
  const worker = join(OUT, "worker");
  await progress.run("compile the Worker", (onProgress) =>
    buildEdge({ profile: DEPLOYED, out: worker, processes, onProgress }),
  );
  const policy = join(OUT, "policy");
  await progress.run("compile the policy tool", (onProgress) =>
    buildPolicyTool({ profile: DEPLOYED, out: policy, processes, onProgress }),
  );
  return packFrom({ worker, policy }, { progress, processes });
}

/**
 * Builds all packages with a Worker that is already built, and the policy tool of the checkout.
 * @param {string} worker folder of its modules
 * @param {Context} context
 */
export async function packWith(worker, { progress, processes }) {
  await preparePolicyTool({ progress, processes });
  return packFrom({ worker, policy: POLICY_FOLDER }, { progress, processes });
}

/**
 * @param {Built} built
 * @param {Context} context
 * @returns {Promise<Packed[]>}
 */
async function packFrom(built, { progress, processes }) {
  const packed = [];
  for (const [name, folder] of Object.entries(PACKAGES)) {
    packed.push(
      await progress.run(`pack ${name}`, async () => {
        const stage = join(OUT, name);
        rmSync(stage, { recursive: true, force: true });
        stageFiles(folder, stage);
        if (name === "portcullis") addBuilt(stage, built);
        return pack(stage, processes);
      }),
    );
  }
  return packed;
}

/**
 * Copies a package's own files.
 * @param {string} folder
 * @param {string} stage
 */
function stageFiles(folder, stage) {
  const manifest = manifestOf(folder);
  mkdirSync(stage, { recursive: true });
  const files = [...manifest.files, ...LICENSES];
  writeFileSync(join(stage, "package.json"), `${JSON.stringify({ ...manifest, files }, null, 2)}\n`);
  for (const name of [...manifest.files, "README.md"]) {
    const from = join(ROOT, folder, name);
    if (existsSync(from)) cpSync(from, join(stage, name), { recursive: true });
  }
  for (const name of LICENSES) cpSync(join(ROOT, name), join(stage, name));
}

/**
 * Adds the Worker without a policy, the policy tool and the schema of the policy.
 * @param {string} stage
 * @param {Built} built
 */
function addBuilt(stage, { worker, policy }) {
  copyWorker(worker, join(stage, "worker"));
  mkdirSync(join(stage, "policy"));
  for (const name of ["portcullis_cli.js", "portcullis_cli_bg.wasm"])
    cpSync(join(policy, name), join(stage, "policy", name));
  mkdirSync(join(stage, "schema"));
  cpSync(join(ROOT, "gateway.schema.json"), join(stage, "schema", "gateway.schema.json"));
}

/**
 * @param {string} stage
 * @param {Processes} processes
 * @returns {Promise<Packed>}
 */
async function pack(stage, processes) {
  const output = await runCommand("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", OUT], {
    cwd: stage,
    processes,
    failure: "The package cannot be packed",
  });
  const parsed = JSON.parse(output);
  // npm 12 lists packages by name, earlier ones in an array.
  const [packed] = Object.values(parsed);
  if (typeof packed?.filename !== "string") throw new ScriptError("npm pack does not say what it packed.");
  return { ...packed, file: join(OUT, packed.filename) };
}
