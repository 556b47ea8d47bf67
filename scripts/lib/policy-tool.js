// The policy commands (crates/cli), compiled to wasm: checks policies with the code that the
// worker runs. Built by `npm run setup`, and again when its sources change; running it needs no
// compiler.

import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { LOCKED, runCargo, runCommand } from "./cargo.js";
import { ScriptError, errorCode } from "./errors.js";
import { hasWasmBindgen, installWasmBindgen, installWasmTarget } from "./install.js";
import { withLock } from "./lock.js";
import { TARGET, TOOLS, WASM, WASM_BINDGEN, wasmBindgenVersion } from "./paths.js";
import { checkPrerequisites, missingCompilers, hasWasmTarget } from "./prerequisites.js";
import { readBeginning, readIfThere } from "./files.js";
import { POLICY_FOLDER, POLICY_TOOL, compile, isBuilt, isCurrent } from "./programs.js";

/**
 * @import { Fault, Operation } from "./openapi-operations.js"
 * @import { Work } from "./cargo.js"
 * @import { Processes } from "./processes.js"
 * @import { Progress } from "./progress.js"
 * @import { Compiled } from "./openapi-validators.js"
 * @typedef {{ upstream: string, file: string, prefix?: string | null, validates?: boolean }} NeededDocument
 * @typedef {{ names: string[], max_bytes: number, documents?: NeededDocument[] }} NeededFiles
 * @typedef {{ out: string, errors: string[], code: number, files?: NeededFiles | null, documents?: NeededDocument[] }} Output
 */

const GLUE = join(POLICY_FOLDER, "portcullis_cli.js");
const LOCK = join(TOOLS, "policy.locks");
const PROFILE = "local";

/**
 * Builds the tool if it is missing or out of date. Returns a function that runs one request (crates/cli,
 * `Request`).
 * @param {{ progress?: Progress, processes?: Processes }} [options]
 * @returns {Promise<(request: object) => Output>}
 */
export async function openPolicyTool({ progress, processes } = {}) {
  await preparePolicyTool({ progress, processes });
  const tool = await import(`${pathToFileURL(GLUE)}?${readIfThere(POLICY_TOOL.stamp)}`);
  tool.initSync({ module: readFileSync(POLICY_TOOL.file) });
  /** @param {object} request */
  const ask = (request) => JSON.parse(tool.run(JSON.stringify(request)));
  return (/** @type {any} */ request) => {
    const output = ask(request);
    // An older build names no files.
    if (!output.files?.names) return output;
    const { policy } = request;
    const { documents } = output.files;
    return { ...ask({ ...request, policy: { ...policy, files: readNamed(policy.name, output.files) } }), documents };
  };
}

/**
 * Runs a request as `run` does, with the OpenAPI documents that the policy names. `validators` are those of upstreams
 * whose requests are checked.
 * @param {(request: object) => Output} run
 * @param {{ command: unknown, policy: { name: string, text: string } }} request
 */
export async function runWithDocuments(run, request) {
  const output = run(request);
  // Mistakes of the policy itself come first.
  /** @type {Map<string, Compiled>} */
  const validators = new Map();
  if (output.errors.length > 0 || !output.documents?.length) return { ...output, validators };
  const { policy } = request;
  const documents = await readDocuments(policy.name, output.documents, validators);
  return { ...run({ ...request, policy: { ...policy, documents } }), validators };
}

/**
 * Returns the operations of the OpenAPI documents that a policy names, by upstream. The tool reports those that
 * cannot be used.
 * @param {string} policy
 * @param {NeededDocument[]} needed
 * @param {Map<string, Compiled>} validators
 */
async function readDocuments(policy, needed, validators) {
  const [{ OpenApiError, readOpenApi }, { readOperations }] = await Promise.all([
    import("./openapi.js"),
    import("./openapi-operations.js"),
  ]);
  const read = needed.map(async ({ upstream, file, prefix, validates }) => {
    const place = join(dirname(policy), file);
    try {
      const document = await readOpenApi(place);
      const { operations, faults, loose } = readOperations(document, {
        prefix: prefix === "/" ? "" : (prefix ?? undefined),
      });
      if (!validates) return [upstream, { name: place, ...comparable(operations, loose, faults) }];
      const { compileValidators } = await import("./openapi-validators.js");
      const compiled = await compileValidators(document, operations, place);
      validators.set(upstream, compiled);
      const { digest, notes } = compiled;
      // What is not checked comes first: only some of the notes are shown.
      return [upstream, { name: place, digest, ...comparable(operations, loose, [...notes, ...faults]) }];
    } catch (error) {
      if (!(error instanceof OpenApiError)) throw error;
      return [upstream, { name: place, operations: [], faults: [], refused: error.lines }];
    }
  });
  return Object.fromEntries(await Promise.all(read));
}

/**
 * Returns operations as requests hold them (crates/cli, `Document`).
 * @param {Operation[]} operations
 * @param {Operation[]} loose
 * @param {Fault[]} faults
 */
function comparable(operations, loose, faults) {
  /** @param {Operation} operation */
  const compared = ({ method, path, access, unsupported, line, column }) => ({
    ...{ method, path, line, column },
    // Credentials of another kind are at least not public.
    access: access ?? (unsupported === undefined ? undefined : "user"),
  });
  return {
    operations: operations.map(compared),
    loose: loose.map(compared),
    faults: [
      ...faults,
      ...operations
        .filter(({ unsupported }) => unsupported !== undefined)
        .map(({ method, path, unsupported, line, column }) => ({
          ...{ line, column },
          message: `${method} ${path} wants ${unsupported}, which the gateway does not check; only public routes are errors`,
        })),
    ],
  };
}

/**
 * Returns the contents of the files that a policy names, without those that cannot be read: the tool reports
 * these with their lines.
 * @param {string} policy
 * @param {NeededFiles} needed
 */
function readNamed(policy, { names, max_bytes }) {
  const read = (/** @type {string} */ name) => readBeginning(resolve(dirname(policy), name), max_bytes + 1);
  const texts = names.map((name) => [name, read(name)?.toString("utf8")]);
  return Object.fromEntries(texts.filter(([, text]) => text !== undefined));
}

// A policy with mistakes; `lines` are the mistakes, each as file:line:column: message.
export class PolicyError extends ScriptError {}

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
  const run = await openPolicyTool({ progress, processes });
  const { out, errors, validators } = await runWithDocuments(run, { command: "compile", policy: readPolicyFile(file) });
  if (errors.length === 0) return { document: out, validators };
  const message = "The policy cannot be built; the lines above name its mistakes.";
  throw new PolicyError(message, { lines: errors });
}

/**
 * Returns a policy file as requests hold it, with the file of expected decisions next to it
 * (gateway.tests.toml for gateway.toml), if there is one.
 * @param {string} file
 */
export function readPolicyFile(file) {
  const tests = file.replace(/(?:\.toml)?$/, ".tests.toml");
  return { ...readText(file), ...(existsSync(tests) && { tests: readText(tests) }) };
}

/** @param {string} file */
function readText(file) {
  try {
    return { name: file, text: readFileSync(file, "utf8") };
  } catch (error) {
    throw new ScriptError(`${file} cannot be read (${errorCode(error)}).`);
  }
}

/**
 * Prints an output and returns its exit code.
 * @param {Output} output
 */
export function printOutput({ out, errors, code }) {
  for (const line of errors) console.error(line);
  if (out !== "") console.log(out);
  return code;
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
      if (!isCurrent(POLICY_TOOL)) await compile(POLICY_TOOL, () => build({ processes, onProgress }));
    }),
  );
}

/** @param {Work} options */
async function build({ processes, onProgress }) {
  await runCargo(
    [
      ...["build", "--package", "portcullis-cli", "--lib", "--target", WASM, "--profile", PROFILE],
      ...["--target-dir", TARGET, ...LOCKED],
    ],
    { processes, onProgress, failure: "The policy tool does not compile" },
  );
  // Built in another folder and moved, so that a script that runs now finds one build, whole.
  const fresh = `${POLICY_FOLDER}-${process.pid}`;
  rmSync(fresh, { recursive: true, force: true });
  mkdirSync(fresh, { recursive: true });
  try {
    const wasm = join(TARGET, WASM, PROFILE, "portcullis_cli.wasm");
    await runCommand(WASM_BINDGEN, [wasm, "--out-dir", fresh, "--target", "web", "--no-typescript"], {
      processes,
      failure: "wasm-bindgen failed",
    });
    rmSync(POLICY_FOLDER, { recursive: true, force: true });
    renameSync(fresh, POLICY_FOLDER);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}
