// Reads OpenAPI documents, which may be hostile. Only the named file is read: no reference leads to another
// file or to the network.

import { readBeginning } from "./files.js";
import { EXIT_USAGE, ScriptError, errorCode } from "./errors.js";

/**
 * @import { YAMLMap } from "yaml"
 * @typedef {(string | number)[]} Path
 * @typedef {{ line: number, column: number }} Position
 * @typedef {{ root: Record<string, any>, version: string, positionOf: (path: Path) => Position }} OpenApi
 */

// Bytes of a document. GitHub's API, one of the largest that are published, has 12 MiB.
export const DOCUMENT_BYTES = 16 * 1024 * 1024;

// Levels of nesting. The parser and the validator are recursive.
const DEPTH = 200;

// Values, after aliases are replaced by what they stand for.
const VALUES = 2_000_000;

// Uses of an anchor, multiplied by those of the anchors within it.
const ALIASES = 100;

// Faults that are shown at once.
const FAULTS_SHOWN = 10;

const VERSION = /^3\.[01]\.\d+(?:-[\w.]+)?$/;

/** The faults of a document; `faults` hold their places. */
export class OpenApiError extends ScriptError {
  /**
   * @param {string} file
   * @param {(Position & { message: string })[]} faults
   */
  constructor(file, faults) {
    super(`${file} cannot be used.`, {
      lines: faults.map(({ line, column, message }) => `${file}:${line}:${column}: ${message}`),
    });
    this.faults = faults;
  }
}

/**
 * Reads the OpenAPI document in a file, as YAML or JSON. Throws an OpenApiError. `name` is the file's name in
 * messages.
 * @param {string} file
 * @param {string} [name]
 * @returns {Promise<OpenApi>}
 */
export async function readOpenApi(file, name = file) {
  const bytes = readBeginning(file, DOCUMENT_BYTES + 1);
  if (bytes === undefined) {
    const advice = /^[a-z]+:\/\//.test(file) ? "; download it first, and name the file" : "";
    throw refused(name, `the document cannot be read${advice}`);
  }
  if (bytes.length > DOCUMENT_BYTES) throw refused(name, `the document has more than ${DOCUMENT_BYTES} bytes`);
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw refused(name, "the document is not UTF-8");
  }
  return parseOpenApi(text, name);
}

/**
 * Parses an OpenAPI document. Throws an OpenApiError.
 * @param {string} text
 * @param {string} name the file's name in messages
 * @returns {Promise<OpenApi>}
 */
export async function parseOpenApi(text, name) {
  const { parsed, root } = await parse(text, name);
  const positionOf = createPositions(parsed);
  /** @param {{ path: Path, message: string }[]} found */
  const fail = (found) => {
    const faults = found.map(({ path, message }) => ({ ...positionOf(path), message }));
    throw new OpenApiError(name, faults.slice(0, FAULTS_SHOWN));
  };
  const excess = findExcess(root);
  if (excess !== undefined) fail([excess]);
  if (!isObject(root)) fail([{ path: [], message: "the document is no object" }]);
  if (typeof root.openapi !== "string" || !VERSION.test(root.openapi)) {
    const isOld = Object.hasOwn(root, "swagger");
    const message = isOld
      ? "this is Swagger 2.0; convert it to OpenAPI 3 first"
      : "openapi must be a version 3.0 or 3.1, such as 3.1.0";
    fail([{ path: [isOld ? "swagger" : "openapi"], message }]);
  }
  const { Validator } = await load(() => import("@seriousme/openapi-schema-validator"));
  // An object: the validator would take a string for the name of a file.
  const { valid, errors } = await new Validator({ logger: false }).validate(root);
  if (valid || errors === undefined) return { root, version: root.openapi.slice(0, 3), positionOf };
  if (typeof errors === "string") {
    const reference = /Can't resolve ([^\s,]*)/.exec(errors)?.[1] ?? "";
    const path = findReference(root, reference) ?? [];
    const message =
      "a reference leads to nothing in this document; other files and URLs are not read, so bundle it first";
    return fail([{ path, message }]);
  }
  const known = new Set();
  const distinct = errors.filter(({ instancePath, keyword }) => {
    // These say only that something within them is wrong.
    const isNew = !["if", "oneOf", "anyOf", "not"].includes(keyword) && !known.has(instancePath);
    known.add(instancePath);
    return isNew;
  });
  return fail(
    (distinct.length === 0 ? errors.slice(0, 1) : distinct).map(({ instancePath, message, params }) => {
      const extra = params.additionalProperty ?? params.unevaluatedProperty;
      const path = pathOf(instancePath);
      return {
        path: extra === undefined ? path : [...path, extra],
        message: `${plain(instancePath) || "the document"} ${message}${extra === undefined ? "" : `: ${plain(extra)}`}`,
      };
    }),
  );
}

/**
 * @param {string} text
 * @param {string} name
 */
async function parse(text, name) {
  const { LineCounter, parseDocument, visit } = await load(() => import("yaml"));
  const lines = new LineCounter();
  try {
    const parsed = parseDocument(text, {
      lineCounter: lines,
      // Whatever a directive says: YAML 1.1 has further types, and words that are no strings.
      schema: "core",
      resolveKnownTags: false,
      merge: false,
      stringKeys: true,
      // The parser compares each key with each.
      uniqueKeys: false,
      prettyErrors: false,
      logLevel: "error",
    });
    const repeated = [...parsed.errors, ...parsed.warnings].length === 0 ? repeatedKeys(parsed, visit) : [];
    const faults = [...parsed.errors, ...parsed.warnings, ...repeated]
      .slice(0, FAULTS_SHOWN)
      .map(({ pos, message }) => {
        const { line, col } = lines.linePos(pos[0]);
        return { line, column: col, message: reworded(message) };
      });
    if (faults.length > 0) throw new OpenApiError(name, faults);
    return { parsed: { contents: parsed.contents, lines }, root: parsed.toJS({ maxAliasCount: ALIASES }) };
  } catch (error) {
    if (error instanceof RangeError) throw refused(name, "the document nests too deeply");
    if (error instanceof ReferenceError) throw refused(name, "the document has too many aliases, or unknown ones");
    throw error;
  }
}

/**
 * Returns a message of the parser in words that fit here.
 * @param {string} message
 */
function reworded(message) {
  if (message.startsWith("Maximum call stack")) return "the document nests too deeply";
  return message.startsWith("Source contains multiple documents") ? "the file has several documents" : plain(message);
}

/**
 * Returns the members that an object has twice, which parsers understand differently.
 * @param {import("yaml").Document.Parsed} parsed
 * @param {typeof import("yaml").visit} walk
 */
function repeatedKeys(parsed, walk) {
  /** @type {{ pos: [number, number], message: string }[]} */
  const found = [];
  walk(parsed, {
    Map(_, { items }) {
      const known = new Set();
      for (const { key } of items) {
        const { value, range } = /** @type {any} */ (key);
        if (known.has(value)) found.push({ pos: range, message: `the member ${plain(value)} is there twice` });
        known.add(value);
      }
    },
  });
  return found;
}

/**
 * Loads a package, which only commands with an OpenAPI document need.
 * @template T
 * @param {() => Promise<T>} start
 * @returns {Promise<T>}
 */
export const load = (start) =>
  start().catch((error) => {
    if (errorCode(error) !== "ERR_MODULE_NOT_FOUND") throw error;
    throw new ScriptError("The npm packages are not installed; run: npm run setup", { code: EXIT_USAGE });
  });

/**
 * @param {string} name
 * @param {string} message
 */
const refused = (name, message) => new OpenApiError(name, [{ line: 1, column: 1, message }]);

/**
 * @param {unknown} value
 * @returns {value is Record<string, any>}
 */
export const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

/**
 * Returns a member of a document's object, without what every object inherits.
 * @param {any} object
 * @param {string} name
 */
export const memberOf = (object, name) => (isObject(object) && Object.hasOwn(object, name) ? object[name] : undefined);

/**
 * Returns text of a document for a message or a comment: one line of bounded length.
 * @param {unknown} text
 */
export function plain(text) {
  const line = String(text).replace(/[\p{C}\p{Z}]+/gu, " ");
  return line.length > 200 ? `${line.slice(0, 200)}…` : line;
}

/**
 * Returns the first value that is out of bounds.
 * @param {unknown} root
 */
function findExcess(root) {
  /** @type {{ value: unknown, path: Path }[]} */
  const left = [{ value: root, path: [] }];
  let count = 0;
  for (let next = left.pop(); next !== undefined; next = left.pop()) {
    const { value, path } = next;
    count += 1;
    if (count > VALUES) return { path: [], message: `the document has more than ${VALUES} values` };
    if (path.length > DEPTH) return { path: path.slice(0, DEPTH), message: "the document nests too deeply" };
    if (typeof value !== "object" || value === null) continue;
    for (const [key, member] of Object.entries(value)) {
      // An assignment to it changes what an object inherits.
      if (key === "__proto__") return { path: [...path, key], message: `no member can be named ${key}` };
      left.push({ value: member, path: [...path, Array.isArray(value) ? Number(key) : key] });
    }
  }
  return undefined;
}

/**
 * Returns the path of the first `$ref` to a place.
 * @param {unknown} value
 * @param {string} reference
 * @param {Path} [path]
 * @returns {Path | undefined}
 */
function findReference(value, reference, path = []) {
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, member] of Object.entries(value)) {
    const at = [...path, Array.isArray(value) ? Number(key) : key];
    const found = key === "$ref" && member === reference ? at : findReference(member, reference, at);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Returns the names of a JSON pointer (RFC 6901).
 * @param {string} pointer
 */
export const pathOf = (pointer) =>
  pointer
    .split("/")
    .slice(1)
    .map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));

/**
 * Returns a function that returns the place of a path, or of the part of it that is there.
 * @param {{ contents: any, lines: import("yaml").LineCounter }} parsed
 * @returns {(path: Path) => Position}
 */
function createPositions({ contents, lines }) {
  /** @type {WeakMap<YAMLMap, Map<string, any>>} */
  const known = new WeakMap();
  /** @param {YAMLMap} map */
  const pairsOf = (map) => {
    const pairs = known.get(map) ?? new Map(map.items.map((pair) => [/** @type {any} */ (pair.key)?.value, pair]));
    known.set(map, pairs);
    return pairs;
  };
  return (path) => {
    let node = contents;
    let offset = node?.range?.[0] ?? 0;
    for (const step of path) {
      const isMap = Array.isArray(node?.items) && typeof step === "string";
      const pair = isMap ? pairsOf(node).get(step) : undefined;
      const next = isMap ? pair?.value : node?.items?.[step];
      if (next === undefined || next === null) break;
      offset = (pair?.key ?? next).range?.[0] ?? offset;
      node = next;
    }
    const { line, col } = lines.linePos(offset);
    return { line: Math.max(line, 1), column: Math.max(col, 1) };
  };
}
