// Everything between a fresh clone and programs that can be started. Independent steps run in parallel:
// npm waits for the network, and each compilation has its own target directory and lock; together they
// keep all cores busy.

import { existsSync } from "node:fs";

import { LOCKED, runCargo } from "./cargo.js";
import { buildEdge, compileWasm } from "./edge-build.js";
import { hasPackages, hasWasmBindgen, installPackages, installWasmBindgen, installWasmTarget } from "./install.js";
import { policyFile } from "../../cli/lib/project.js";
import { BUILD, TARGET, WASM, wasmBindgenVersion } from "./paths.js";
import { preparePolicyTool } from "./policy-tool.js";
import { checkPrerequisites, missingCompilers, hasWasmTarget } from "./prerequisites.js";
import { POLICY_TOOL, SERVICES, compile, isBuilt, isCurrent, worker } from "./programs.js";

/**
 * @import { Work } from "./cargo.js"
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Progress } from "../../cli/lib/progress.js"
 */

/**
 * Installs and builds what is missing. `origin` and `edge` say what will be started. Without a compiler,
 * the existing build is used.
 * @param {Progress} progress
 * @param {{ processes: Processes, origin?: boolean, edge?: boolean }} options
 */
export async function setUp(progress, { processes, origin = true, edge = true }) {
  const programs = [...(origin ? [SERVICES] : []), ...(edge ? [worker("local"), POLICY_TOOL] : [])];
  const hasBuild = programs.every(isBuilt) && (!edge || hasWasmBindgen());
  const [missing] = await missingCompilers();
  await checkPrerequisites({ compiles: missing !== undefined && !hasBuild, installs: edge && !hasPackages() });
  if (missing !== undefined) {
    const stale = programs.filter((program) => !isCurrent(program)).map(({ title }) => title);
    const age = stale.length === 0 ? "" : ` These are older than their sources: ${stale.join(", ")}.`;
    progress.say(`${missing.what}: the existing build is used.${age}`);
  }
  const canCompile = missing === undefined;
  const work = [];
  if (edge) work.push(prepareEdge(progress, { processes, canCompile }));
  if (origin && canCompile)
    work.push(progress.run("compile the services", (note) => compileOrigin({ processes, onProgress: note })));
  await Promise.all(work);
}

/**
 * @param {Progress} progress
 * @param {{ processes: Processes, canCompile: boolean }} options
 */
async function prepareEdge(progress, { processes, canCompile }) {
  const prepared = [];
  if (!hasPackages()) prepared.push(progress.run("install npm packages", () => installPackages({ processes })));
  if (canCompile) {
    if (!hasWasmBindgen()) {
      prepared.push(
        progress.run(`install wasm-bindgen ${wasmBindgenVersion()}`, (note) =>
          installWasmBindgen({ processes, onProgress: note }),
        ),
      );
    }
    const compiled = async () => {
      if (!(await hasWasmTarget()))
        await progress.run(`install Rust's ${WASM} target`, () => installWasmTarget({ processes }));
      await progress.run("compile the worker", (note) => compileWasm({ processes, onProgress: note }));
    };
    prepared.push(compiled());
  }
  await Promise.all(prepared);
  if (canCompile) await preparePolicyTool({ progress, processes });
  const policy = policyFile(process.env);
  if (!existsSync(BUILD)) await progress.run("make the worker's glue", () => buildEdge({ policy, processes }));
  else await buildEdge({ policy, processes });
}

/** @param {Work} [options] */
export async function compileOrigin({ processes, onProgress } = {}) {
  await compile(SERVICES, () =>
    runCargo(["build", "--package", "portcullis-origin", "--target-dir", TARGET, ...LOCKED], {
      processes,
      onProgress,
      failure: "The services do not compile",
    }),
  );
}
