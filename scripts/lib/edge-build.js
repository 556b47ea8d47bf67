// Builds the worker: the checked policy to a module, the sources to wasm by cargo, and the wasm
// to a module with its glue by wasm-bindgen. Writes to target/ and build/ only, and does nothing
// that the last build has done already: when only the policy has changed, no compiler runs.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";

import { LOCKED, runCargo, runCommand } from "./cargo.js";
import { fixGlue } from "./glue.js";
import { hasWasmBindgen } from "./install.js";
import { withLock } from "./lock.js";
import { BUILD, ROOT, TARGET, WASM, WASM_BINDGEN, wasmBindgenVersion } from "./paths.js";
import { compileForWorker } from "./policy-tool.js";
import { checkPrerequisites, missingCompilers, hasWasmTarget } from "./prerequisites.js";
import { DEPLOYED, LOCAL, bindgenFlagsFor, configFor, featuresFor } from "./profiles.js";
import { ScriptError } from "../../cli/lib/errors.js";
import { readIfThere } from "../../cli/lib/files.js";
import { writeModule, writePolicy } from "../../cli/lib/worker.js";
import { compile, isBuilt, isCurrent, worker } from "./programs.js";

/**
 * @import { Work } from "./cargo.js"
 * @typedef {{ profile?: string, out?: string, policy?: string }} Build
 */

// Reset and abort handler: after a panic, the glue restarts the module with the next event instead of
// failing every further request of the isolate.
const BINDGEN_FLAGS = [
  "--target",
  "module",
  "--no-typescript",
  "--out-name",
  "index",
  "--experimental-reset-state-function",
  "--force-enable-abort-handler",
];

// Copied next to the glue, because they are imported by name.
const COPIED = ["entry.js", "operators.js"];

// The module that changes the glue: another one makes another glue.
const GLUE_FIXES = join(ROOT, "scripts", "lib", "glue.js");

const FILES = ["index_bg.wasm", "index.js", ...COPIED];

// Held during the whole build: two builds would write the same files.
const LOCK = join(TARGET, "edge-build.locks");

/**
 * Builds the worker into `out` with the policy file `policy`. The profile `local` compiles in
 * seconds; `worker` is the deployed one.
 * @param {Build & Work} [options]
 */
export async function buildEdge({ profile = LOCAL, out = BUILD, policy = "gateway.toml", onProgress, processes } = {}) {
  // A build installs nothing: `npm run setup` does.
  if (!hasWasmBindgen())
    throw new ScriptError(`wasm-bindgen ${wasmBindgenVersion()} is not in .tools; run: npm run setup`);
  const compiled = await compileForWorker(policy, { processes });
  await withLock(LOCK, async () => {
    await compileWasm({ profile, onProgress, processes });
    await makeGlue({ profile, out, processes });
    writePolicy(out, compiled);
    // Not before: npm's packages are installed by a script that imports this module.
    const { pageModule } = await import("./page-build.js");
    const page = pageModule(readIfThere(join(out, "page.js")));
    if (page !== undefined) writeModule(join(out, "page.js"), page);
  });
}

/**
 * Compiles the worker unless its sources are as they were. A build for deployment always runs
 * cargo, which also notices another compiler or other flags. Another build uses the worker at hand if
 * there is no compiler.
 * @param {Build & Work} [options]
 */
export async function compileWasm({ profile = LOCAL, onProgress, processes } = {}) {
  const program = worker(profile);
  if (profile !== DEPLOYED) {
    if (isCurrent(program)) return;
    if (isBuilt(program) && (await missingCompilers()).length > 0) return;
  }
  await checkPrerequisites({ installs: false });
  if (!(await hasWasmTarget())) throw new ScriptError(`Rust's ${WASM} target is missing; run: npm run setup`);
  await compile(program, () =>
    runCargo(cargoArguments(profile), { onProgress, processes, failure: "The worker does not compile" }),
  );
}

/** @param {string} profile */
function cargoArguments(profile) {
  return [
    ...["build", "--package", "portcullis", "--lib", "--target", WASM, "--profile", profile],
    ...["--target-dir", TARGET, ...featuresFor(profile, process.env)],
    ...configFor(profile),
    ...LOCKED,
  ];
}

/** @param {Build & Work} [options] */
async function makeGlue({ profile = LOCAL, out = BUILD, processes } = {}) {
  const { file: wasm } = worker(profile);
  const flags = [...BINDGEN_FLAGS, ...bindgenFlagsFor(profile, process.env)];
  const copied = COPIED.map((name) => join(ROOT, "src", "host", name));
  const sources = [wasm, ...copied, GLUE_FIXES].map((file) => readFileSync(file));
  const stamp = fingerprint([...sources, wasmBindgenVersion(), flags.join(" ")]);
  const stampFile = join(out, "stamp");
  if (FILES.every((name) => existsSync(join(out, name))) && readIfThere(stampFile) === stamp) return;

  // Built in another directory and moved, so that a running `wrangler dev` mixes the files of two
  // builds only for a moment.
  const aside = join(out, `.new-${process.pid}`);
  rmSync(aside, { recursive: true, force: true });
  mkdirSync(aside, { recursive: true });
  try {
    await runCommand(WASM_BINDGEN, [wasm, "--out-dir", aside, ...flags], {
      processes,
      failure: "wasm-bindgen failed",
    });
    const glue = join(aside, "index.js");
    writeFileSync(glue, fixGlue(readFileSync(glue, "utf8")));
    for (const file of copied) copyFileSync(file, join(aside, basename(file)));
    rmSync(stampFile, { force: true });
    // JavaScript files of the Rust crates, if there are any.
    rmSync(join(out, "snippets"), { recursive: true, force: true });
    for (const name of ["snippets", ...FILES]) {
      if (existsSync(join(aside, name))) renameSync(join(aside, name), join(out, name));
    }
    writeFileSync(stampFile, stamp);
  } finally {
    rmSync(aside, { recursive: true, force: true });
  }
}

/** @param {(string | Buffer)[]} parts */
function fingerprint(parts) {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part).update("\0");
  return hash.digest("hex");
}
