// The files of this package. In a checkout, where nothing is prebuilt, they are what `npm run setup` built.

import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { ScriptError } from "./errors.js";

const PACKAGE = dirname(dirname(fileURLToPath(import.meta.url)));
const CHECKOUT = dirname(PACKAGE);

/**
 * Returns a prebuilt folder of the package, or the same folder of a checkout.
 * @param {string} name
 * @param {string} built where `npm run setup` builds it
 */
function folder(name, built) {
  const packed = join(PACKAGE, name);
  if (existsSync(packed)) return packed;
  const own = join(CHECKOUT, built);
  if (existsSync(join(CHECKOUT, "Cargo.toml")) && existsSync(own)) return own;
  throw new ScriptError(`${packed} is missing; install the package portcullis again.`);
}

/** The modules of the Worker: the wasm, its glue and its entry. */
export const workerFolder = () => folder("worker", "build");

/** The policy tool. */
export const policyToolFolder = () => folder("policy", join(".tools", "policy"));

export const packageVersion = () => String(JSON.parse(readFileSync(join(PACKAGE, "package.json"), "utf8")).version);
