// Everything between a fresh clone and programs that can be started. What does not
// wait for something else runs side by side: npm is bound by the network, and of
// the three compilations each has a folder and so a lock of its own; together they
// keep all cores busy through each other's long last crates.

import { existsSync } from "node:fs";

import { runCargo } from "./cargo.js";
import { buildEdge, compileWasm } from "./edge-build.js";
import { hasPackages, hasWasmBindgen, installPackages, installWasmBindgen, installWasmTarget } from "./install.js";
import { BUILD, TARGET, WASM, wasmBindgenVersion } from "./places.js";
import { checkPrerequisites, hasWasmTarget } from "./prerequisites.js";

// Which of the steps there are depends on what is there already; `origin` and
// `edge` say what is going to be started.
export async function setUp(steps, { owner, origin = true, edge = true } = {}) {
  await checkPrerequisites();
  const work = [];
  if (edge) work.push(prepareEdge(steps, owner));
  if (origin) work.push(steps.run("compile the services", (note) => compileOrigin({ owner, onProgress: note })));
  await Promise.all(work);
}

async function prepareEdge(steps, owner) {
  const prepared = [];
  if (!hasPackages()) prepared.push(steps.run("install npm packages", () => installPackages({ owner })));
  if (!hasWasmBindgen()) {
    prepared.push(
      steps.run(`install wasm-bindgen ${wasmBindgenVersion()}`, (note) =>
        installWasmBindgen({ owner, onProgress: note }),
      ),
    );
  }
  const compiled = (async () => {
    if (!(await hasWasmTarget())) await steps.run(`install Rust's ${WASM} target`, () => installWasmTarget({ owner }));
    await steps.run("compile the worker", (note) => compileWasm({ owner, onProgress: note }));
  })();
  await Promise.all([...prepared, compiled]);
  if (!existsSync(BUILD)) await steps.run("make the worker's glue", () => buildEdge({ owner }));
  else await buildEdge({ owner });
}

export async function compileOrigin({ owner, onProgress } = {}) {
  const locked = process.env.CI ? ["--locked"] : [];
  await runCargo(["build", "--package", "portcullis-origin", "--target-dir", TARGET, ...locked], {
    owner,
    onProgress,
    failure: "The services do not compile",
  });
}
