// Everything between a fresh clone and programs that can be started. What does not
// wait for something else runs side by side: npm is bound by the network, and of
// the three compilations each has a folder and so a lock of its own; together they
// keep all cores busy through each other's long last crates.

import { existsSync } from "node:fs";

import { runCargo } from "./cargo.js";
import { buildEdge, compileWasm } from "./edge-build.js";
import { hasPackages, hasWasmBindgen, installPackages, installWasmBindgen, installWasmTarget } from "./install.js";
import { BUILD, TARGET, WASM, wasmBindgenVersion } from "./paths.js";
import { preparePolicyTool } from "./policy-tool.js";
import { checkPrerequisites, hasWasmTarget } from "./prerequisites.js";

// Which steps there are depends on what is there already; `origin` and
// `edge` say what is going to be started.
export async function setUp(progress, { processes, origin = true, edge = true } = {}) {
  await checkPrerequisites();
  const work = [];
  if (edge) work.push(prepareEdge(progress, processes));
  if (origin) work.push(progress.run("compile the services", (note) => compileOrigin({ processes, onProgress: note })));
  await Promise.all(work);
}

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
  if (!existsSync(BUILD)) await progress.run("make the worker's glue", () => buildEdge({ processes }));
  else await buildEdge({ processes });
  await preparePolicyTool({ progress, processes });
}

export async function compileOrigin({ processes, onProgress } = {}) {
  const locked = process.env.CI ? ["--locked"] : [];
  await runCargo(["build", "--package", "portcullis-origin", "--target-dir", TARGET, ...locked], {
    processes,
    onProgress,
    failure: "The services do not compile",
  });
}
