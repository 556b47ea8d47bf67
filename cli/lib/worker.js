// The modules of the Worker: prebuilt ones, and those that hold a project's policy.

import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { ScriptError } from "./errors.js";
import { validatorsModule } from "./openapi-validators.js";

/** @import { Compiled } from "./openapi-validators.js" */

// The modules that differ from project to project.
const OF_POLICY = ["policy.js", "validators.js"];

// Paths of modules: those of the entry's folder, and JavaScript files of the Rust crates.
const MODULE = /^(?:snippets[\\/].+|[^\\/]+)\.(?:js|wasm)$/;

/**
 * Returns the modules of a build, the entry first. The folder may hold other things, such as packages.
 * @param {string} folder
 */
export function modulesOf(folder) {
  return readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => MODULE.test(name))
    .sort((a, b) => Number(b === "entry.js") - Number(a === "entry.js"))
    .map((name) => ({ name, path: join(folder, name) }));
}

/**
 * Returns the policy as a module of the worker. The JSON is a string in it, because the worker
 * parses and validates it with its own code, as it does with a pushed policy. `lines` are those of its routes' options
 * in the file, for the operators' page.
 * @param {string} document
 * @param {unknown} lines
 */
const policyModule = (document, lines) =>
  `// The checked policy, as JSON.\nexport const policy = () => ${JSON.stringify(document)};\n` +
  `export const lines = () => (${JSON.stringify(lines)});\n`;

// JSON keeps U+2028, which ends no line of a module's string.
const DOCUMENT = /^export const policy = \(\) => ("[^\n]*");$/m;

/**
 * Returns the policy in the folder of a Worker.
 * @param {string} folder
 * @returns {import("./policy-document.js").PolicyDocument}
 */
export function readPolicyOf(folder) {
  const file = join(folder, "policy.js");
  const [, document] = DOCUMENT.exec(existsSync(file) ? readFileSync(file, "utf8") : "") ?? [];
  if (document === undefined)
    throw new ScriptError(`${file} holds no policy; build the Worker again, or use --policy.`);
  return JSON.parse(JSON.parse(document));
}

/**
 * Writes the modules of a policy into the folder of the Worker.
 * @param {string} folder
 * @param {{ document: string, validators: Map<string, Compiled>, lines: unknown }} policy
 */
export function writePolicy(folder, { document, validators, lines }) {
  writeModule(join(folder, "validators.js"), validatorsModule(validators));
  writeModule(join(folder, "policy.js"), policyModule(document, lines));
}

/**
 * Copies the prebuilt modules of the Worker, except those of a policy, and removes others.
 * @param {string} from
 * @param {string} folder
 */
export function copyWorker(from, folder) {
  const names = modulesOf(from)
    .map(({ name }) => name)
    .filter((name) => !OF_POLICY.includes(name));
  for (const name of names) {
    const file = join(folder, name);
    mkdirSync(dirname(file), { recursive: true });
    writeModule(file, readFileSync(join(from, name)));
  }
  for (const { name, path } of modulesOf(folder)) {
    if (!names.includes(name) && !OF_POLICY.includes(name)) rmSync(path);
  }
}

/**
 * Writes a module of the Worker, if it has changed.
 * @param {string} file
 * @param {string | Buffer} content
 */
export function writeModule(file, content) {
  const wanted = Buffer.from(content);
  if (existsSync(file) && readFileSync(file).equals(wanted)) return;
  const aside = `${file}.${process.pid}`;
  writeFileSync(aside, wanted);
  renameSync(aside, file);
}
