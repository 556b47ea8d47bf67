// Everything between a fresh clone and programs that can be started. Independent steps run in parallel:
// npm waits for the network, and each compilation has its own target directory and lock; together they
// keep all cores busy.

import { existsSync } from "node:fs";

import { runCargo } from "./cargo.js";
import { buildEdge, compileWasm } from "./edge-build.js";
import { hasPackages, hasWasmBindgen, installPackages, installWasmBindgen, installWasmTarget } from "./install.js";
import { BUILD, TARGET, WASM, policyFile, wasmBindgenVersion } from "./paths.js";
import { preparePolicyTool } from "./policy-tool.js";
import { checkPrerequisites, hasWasmTarget } from "./prerequisites.js";

/**
 * @import { Work } from "./cargo.js"
 * @import { Processes } from "./processes.js"
 * @import { Progress } from "./progress.js"
 */

/**
 * Installs and builds what is missing. `origin` and `edge` say what will be started.
 * @param {Progress} progress
 * @param {{ processes: Processes, origin?: boolean, edge?: boolean }} options
 */
export async function setUp(progress, { processes, origin = true, edge = true }) {
  await checkPrerequisites();
  const work = [];
  if (edge) work.push(prepareEdge(progress, processes));
  if (origin) work.push(progress.run("compile the services", (note) => compileOrigin({ processes, onProgress: note })));
  await Promise.all(work);
}

/**
 * @param {Progress} progress
 * @param {Processes} processes
 */
async function prepareEdge(progress, processes) {
  const prepared = [];
  if (!hasPackages()) prepared.push(progress.run("install npm packages", () => installPackages({ processes })));
  if (!hasWasmBindgen()) {
    prepared.push(
      progress.run(`install wasm-bindgen ${wasmBindgenVersion()}`, (note) =>
        installWasmBindgen({ processes, onProgress: note }),
      ),
    );
  }
  const compiled = (async () => {
    if (!(await hasWasmTarget()))
      await progress.run(`install Rust's ${WASM} target`, () => installWasmTarget({ processes }));
    await progress.run("compile the worker", (note) => compileWasm({ processes, onProgress: note }));
  })();
  await Promise.all([...prepared, compiled]);
  await preparePolicyTool({ progress, processes });
  const policy = policyFile(process.env);
  if (!existsSync(BUILD)) await progress.run("make the worker's glue", () => buildEdge({ policy, processes }));
  else await buildEdge({ policy, processes });
}

/** @param {Work} [options] */
export async function compileOrigin({ processes, onProgress } = {}) {
  const locked = process.env.CI ? ["--locked"] : [];
  await runCargo(["build", "--package", "portcullis-origin", "--target-dir", TARGET, ...locked], {
    processes,
    onProgress,
    failure: "The services do not compile",
  });
}
