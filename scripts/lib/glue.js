// What is changed in the glue that wasm-bindgen writes.

import { ScriptError } from "../../cli/lib/errors.js";

/**
 * Returns the glue in the form that wrangler's bundler takes without a warning.
 * @param {string} glue
 */
export const fixGlue = (glue) => removeRepeatedImports(replaceSourceImport(glue));

/**
 * Replaces wasm-bindgen's source-phase import, which workerd does not support: there, as in wrangler's
 * bundler, a plain import of a .wasm file is a module.
 * @param {string} glue
 */
function replaceSourceImport(glue) {
  const fixed = glue.replace(/^import source /m, "import ");
  if (fixed === glue) throw new ScriptError("wasm-bindgen's glue has an unexpected form; see scripts/lib/glue.js.");
  return fixed;
}

/**
 * Removes all but the first import of a module, and their keys in the object of the imports. wasm-bindgen writes one
 * for each block of Rust that imports from a module, and the bundler warns of each repeated key.
 * @param {string} glue
 */
function removeRepeatedImports(glue) {
  /** @type {Map<string, string>} */
  const names = new Map();
  let fixed = glue;
  for (const [line, name, path] of glue.matchAll(/^import \* as (import\d+) from ("[^"\n]+");?\n/gm)) {
    if (!names.has(path)) {
      names.set(path, name);
      continue;
    }
    fixed = fixed.replace(line, "").replace(new RegExp(`^ *"[^"\\n]+": ${name},\\n`, "m"), "");
    if (new RegExp(`\\b${name}\\b`).test(fixed))
      throw new ScriptError(`wasm-bindgen's glue uses ${name} in an unexpected form; see scripts/lib/glue.js.`);
  }
  return fixed;
}
