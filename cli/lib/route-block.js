// Routes as TOML, and the block of a policy file that a command owns. Text of a document is only ever inside of quotes
// and comments.

import { createHash } from "node:crypto";

import { memberOf, plain } from "./openapi.js";
import { shapeOf } from "./openapi-operations.js";
import { ScriptError } from "./errors.js";

/**
 * @import { Access, Fault, Operation } from "./openapi-operations.js"
 * @typedef {object} RouteOptions
 * @property {string} command that writes the routes, for the marker
 * @property {string} upstream
 * @property {"public" | "user"} [defaultAccess] the rule of operations without one
 * @property {string[]} [issuers]
 * @property {string} [stripPrefix]
 * @typedef {{ path: string, methods: string[], access: Access, names: string[], isOptional: boolean }} RouteDraft
 * @typedef {{ path: string, methods: string[], upstream: string }} WrittenRoute
 */

// Operation ids in one comment.
const NAMES_SHOWN = 10;

/**
 * Returns a TOML basic string.
 * @param {string} text
 */
export const quote = (text) =>
  `"${text.replace(/["\\]|[^\x20-\x7e]/gsu, (character) => {
    if (character === '"' || character === "\\") return `\\${character}`;
    const code = /** @type {number} */ (character.codePointAt(0));
    // Half of a pair is no character.
    const scalar = code >= 0xd800 && code <= 0xdfff ? 0xfffd : code;
    return `\\U${scalar.toString(16).padStart(8, "0")}`;
  })}"`;

/** @param {string[]} names */
const list = (names) => `[${names.map(quote).join(", ")}]`;

/**
 * @param {Access} access
 * @returns {string}
 */
function renderAccess(access) {
  if (typeof access === "string") return quote(access);
  for (const key of ["scopes", "roles"]) {
    const names = memberOf(access, key);
    if (names !== undefined) return `{ ${key} = ${list(names)} }`;
  }
  const [[key, rules]] = Object.entries(access);
  return `{ ${key} = [${rules.map(renderAccess).join(", ")}] }`;
}

/**
 * Returns the routes of operations: one for each path and rule. Operations that a route of `written` takes already
 * are returned as `taken`.
 * @param {Operation[]} operations
 * @param {RouteOptions} options
 * @param {WrittenRoute[]} written
 */
export function draftRoutes(operations, { upstream, defaultAccess = "user", stripPrefix = "" }, written) {
  /** @param {string} path @param {string} method */
  const key = (path, method) => `${method} ${shapeOf(path)}`;
  const known = new Set(
    written
      .filter((route) => route.upstream === upstream)
      .flatMap(({ path, methods }) => methods.map((method) => key(path, method))),
  );
  // Routes of one path name its parameters alike.
  const spellings = new Map(written.map(({ path }) => [shapeOf(path), path]));
  /** @type {Map<string, RouteDraft>} */
  const drafts = new Map();
  /** @type {Operation[]} */
  const taken = [];
  for (const operation of operations) {
    const { method, name, access = defaultAccess, isOptional } = operation;
    const pattern = operation.path === "/" && stripPrefix !== "" ? stripPrefix : `${stripPrefix}${operation.path}`;
    const path = spellings.get(shapeOf(pattern)) ?? pattern;
    spellings.set(shapeOf(pattern), path);
    if (known.has(key(path, method)) || (method === "HEAD" && known.has(key(path, "GET")))) {
      taken.push(operation);
      continue;
    }
    const at = JSON.stringify([path, access]);
    const draft = drafts.get(at) ?? { path, methods: [], access, names: [], isOptional: false };
    drafts.set(at, draft);
    draft.methods.push(method);
    if (name !== undefined) draft.names.push(name);
    draft.isOptional ||= isOptional;
  }
  return { drafts: [...drafts.values()], taken };
}

/**
 * @param {RouteDraft} draft
 * @param {RouteOptions} options
 */
function renderRoute({ path, methods, access, names, isOptional }, { upstream, issuers, stripPrefix }) {
  const shown = names.slice(0, NAMES_SHOWN).map(plain).join(", ");
  return [
    ...(shown === "" ? [] : [`# operations: ${shown}${names.length > NAMES_SHOWN ? ", …" : ""}`]),
    ...(isOptional ? ["# Credentials are optional in the document. A public route looks at no token."] : []),
    "[[routes]]",
    `path = ${quote(path)}`,
    `methods = ${list(methods)}`,
    `upstream = ${quote(upstream)}`,
    `access = ${renderAccess(access)}`,
    ...(issuers === undefined || access === "public" ? [] : [`issuers = ${list(issuers)}`]),
    ...(stripPrefix === undefined ? [] : [`strip_prefix = ${quote(stripPrefix)}`]),
  ].join("\n");
}

/**
 * Returns the block of an upstream's routes, with its markers. `left` are faults of operations without a route.
 * @param {string} document name of the document
 * @param {RouteDraft[]} drafts
 * @param {RouteOptions} options
 * @param {{ taken?: Operation[], left?: Fault[] }} [without]
 */
export function renderBlock(document, drafts, options, { taken = [], left = [] } = {}) {
  const body = [
    ...drafts.map((draft) => renderRoute(draft, options)),
    taken.map(({ method, path }) => `# A route outside of this block takes ${method} ${plain(path)}`).join("\n"),
    left.map(({ line, message }) => `# Line ${line} has no route: ${plain(message)}`).join("\n"),
  ]
    .filter(Boolean)
    .join("\n\n");
  const { upstream, command } = options;
  return `${beginOf(upstream)} from ${plain(document)}: written by ${command}, sha256 ${digestOf(body)}\n\n${body}\n\n${endOf(upstream)}\n`;
}

/** @param {string} upstream */
const beginOf = (upstream) => `# --- begin: routes of ${upstream}`;

/** @param {string} upstream */
const endOf = (upstream) => `# --- end: routes of ${upstream}`;

/** @param {string} body */
const digestOf = (body) => createHash("sha256").update(body).digest("hex").slice(0, 16);

/**
 * Returns a policy's text before and after the block of an upstream. Without a block, what comes after is empty.
 * @param {string} text
 * @param {string} upstream
 * @param {string} file for messages
 */
export function splitAtBlock(text, upstream, file) {
  const lines = text.split("\n");
  /** @param {string} marker */
  const find = (marker) =>
    lines.flatMap((line, index) => (line === marker || line.startsWith(`${marker} `) ? [index] : []));
  const [begins, ends] = [find(beginOf(upstream)), find(endOf(upstream))];
  if (begins.length === 0 && ends.length === 0) {
    const gap = text === "" || text.endsWith("\n\n") ? "" : text.endsWith("\n") ? "\n" : "\n\n";
    return { before: `${text}${gap}`, after: "" };
  }
  if (begins.length !== 1 || ends.length !== 1 || begins[0] > ends[0])
    throw new ScriptError(`${file} must have the lines "${beginOf(upstream)} …" and "${endOf(upstream)}" once each.`);
  const [begin, end] = [begins[0], ends[0]];
  const body = lines
    .slice(begin + 1, end)
    .join("\n")
    .trim();
  if (/, sha256 ([0-9a-f]{16})\r?$/.exec(lines[begin])?.[1] !== digestOf(body)) {
    throw new ScriptError(
      `${file}:${begin + 1}: the routes of ${upstream} were changed by hand. Move changed routes out of the block, and delete ` +
        "the block: routes outside of it take precedence, and the others are written again.",
    );
  }
  const before = lines
    .slice(0, begin)
    .map((line) => `${line}\n`)
    .join("");
  return { before, after: lines.slice(end + 1).join("\n") };
}
