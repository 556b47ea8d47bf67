// The policy commands (crates/cli), compiled to wasm: check policies with the code that the Worker runs.

import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { ScriptError, errorCode } from "./errors.js";
import { readBeginning } from "./files.js";

/**
 * @import { Fault, Operation } from "./openapi-operations.js"
 * @import { Compiled } from "./openapi-validators.js"
 * @typedef {{ upstream: string, file: string, prefix?: string | null, validates?: boolean }} NeededDocument
 * @typedef {{ names: string[], max_bytes: number, documents?: NeededDocument[] }} NeededFiles
 * @typedef {{ out: string, errors: string[], code: number, files?: NeededFiles | null, documents?: NeededDocument[] }} Output
 * @typedef {(request: object) => Output} PolicyTool runs one request (crates/cli, `Request`)
 */

/**
 * Loads the tool from the folder that wasm-bindgen wrote. `version` distinguishes builds in one process.
 * @param {string} folder
 * @param {string} [version]
 * @returns {Promise<PolicyTool>}
 */
export async function loadPolicyTool(folder, version = "") {
  const tool = await import(`${pathToFileURL(join(folder, "portcullis_cli.js"))}?${version}`);
  tool.initSync({ module: readFileSync(join(folder, "portcullis_cli_bg.wasm")) });
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
 * @param {PolicyTool} run
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
 * Checks a policy and returns the document that the Worker reads, the validators of requests, and the lines of the
 * routes' options. Throws a PolicyError.
 * @param {PolicyTool} run
 * @param {{ name: string, text: string }} policy
 */
export async function compileForWorker(run, policy) {
  const { out, errors, validators } = await runWithDocuments(run, { command: "compile", policy });
  if (errors.length === 0) {
    const routes = JSON.parse(run({ command: "lines", policy }).out);
    return { document: out, validators, lines: { file: basename(policy.name), routes } };
  }
  throw new PolicyError("The policy cannot be built; the lines above name its mistakes.", { lines: errors });
}

/**
 * Returns a policy file as requests hold it, with the file of expected decisions next to it
 * (gateway.tests.toml for gateway.toml), if there is one.
 * @param {string} file
 */
export function readPolicyFile(file) {
  const tests = testsOf(file);
  return { ...readText(file), ...(existsSync(tests) && { tests: readText(tests) }) };
}

/**
 * Returns the name of the file of expected decisions.
 * @param {string} file
 */
export const testsOf = (file) => file.replace(/(?:\.toml)?$/, ".tests.toml");

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
