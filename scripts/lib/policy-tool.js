// The policy tool of a checkout: built by `npm run setup`, and again when its sources change; running it
// needs no compiler.

import { mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

import { readIfThere } from "../../cli/lib/files.js";
import { compileForWorker as compileWith, loadPolicyTool, readPolicyFile } from "../../cli/lib/policy-tool.js";
import { LOCKED, runCargo, runCommand } from "./cargo.js";
import { hasWasmBindgen, installWasmBindgen, installWasmTarget } from "./install.js";
import { withLock } from "./lock.js";
import { TARGET, TOOLS, WASM, WASM_BINDGEN, wasmBindgenVersion } from "./paths.js";
import { checkPrerequisites, missingCompilers, hasWasmTarget } from "./prerequisites.js";
import { LOCAL, bindgenFlagsFor, configFor } from "./profiles.js";
import { POLICY_FOLDER, POLICY_TOOL, compile, isBuilt, isCurrent } from "./programs.js";

/**
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Progress } from "../../cli/lib/progress.js"
 * @import { Work } from "./cargo.js"
 */

const LOCK = join(TOOLS, "policy.locks");

/**
 * Builds the tool if it is missing or out of date, and loads it.
 * @param {{ progress?: Progress, processes?: Processes }} [options]
 */
export async function openPolicyTool({ progress, processes } = {}) {
  await preparePolicyTool({ progress, processes });
  return loadPolicyTool(POLICY_FOLDER, readIfThere(POLICY_TOOL.stamp));
}

/**
 * Checks a policy file and returns the document that the worker reads. Throws a PolicyError.
 * @param {string} file
 * @param {{ progress?: Progress, processes?: Processes }} [options]
 */
export async function compilePolicy(file, { progress, processes } = {}) {
  return (await compileForWorker(file, { progress, processes })).document;
}

/**
 * Does the same, and returns the validators of requests as well.
 * @param {string} file
 * @param {{ progress?: Progress, processes?: Processes }} [options]
 */
export async function compileForWorker(file, { progress, processes } = {}) {
  return compileWith(await openPolicyTool({ progress, processes }), readPolicyFile(file));
}

/**
 * Builds the tool unless it is up to date. Without a compiler, an older build is used, and `progress` says
 * so.
 * @param {{ progress?: Progress, processes?: Processes }} [options]
 */
export async function preparePolicyTool({ progress, processes } = {}) {
  if (isCurrent(POLICY_TOOL)) return;
  const [missing] = await missingCompilers();
  if (missing !== undefined && isBuilt(POLICY_TOOL)) {
    progress?.say(`  ${missing.what}: the existing policy tool is used. It is older than its sources.`);
    return;
  }
  await checkPrerequisites({ installs: false });
  /**
   * @param {string} title
   * @param {(note: (text: string) => void) => Promise<unknown>} work
   */
  const step = (title, work) => (progress === undefined ? work(() => {}) : progress.run(title, work));
  if (!hasWasmBindgen())
    await step(`install wasm-bindgen ${wasmBindgenVersion()}`, (onProgress) =>
      installWasmBindgen({ processes, onProgress }),
    );
  if (!(await hasWasmTarget())) await step(`install Rust's ${WASM} target`, () => installWasmTarget({ processes }));
  await step("compile the policy tool", (onProgress) =>
    withLock(LOCK, async () => {
      if (!isCurrent(POLICY_TOOL)) await compile(POLICY_TOOL, () => buildPolicyTool({ processes, onProgress }));
    }),
  );
}

/**
 * Compiles the tool into the folder `out`.
 * @param {{ profile?: string, out?: string } & Work} options
 */
export async function buildPolicyTool({ profile = LOCAL, out = POLICY_FOLDER, processes, onProgress }) {
  await runCargo(
    [
      ...["build", "--package", "portcullis-cli", "--lib", "--target", WASM, "--profile", profile],
      ...["--target-dir", TARGET, ...configFor(profile), ...LOCKED],
    ],
    { processes, onProgress, failure: "The policy tool does not compile" },
  );
  // Built in another folder and moved, so that a script that runs now finds one build, whole.
  const fresh = `${out}-${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  try {
    const wasm = join(TARGET, WASM, profile, "portcullis_cli.wasm");
    const flags = ["--target", "web", "--no-typescript", ...bindgenFlagsFor(profile, process.env)];
    await runCommand(WASM_BINDGEN, [wasm, "--out-dir", fresh, ...flags], {
      processes,
      failure: "wasm-bindgen failed",
    });
    rmSync(out, { recursive: true, force: true });
    renameSync(fresh, out);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}
