// The operations of an OpenAPI document as routes name them: method, path of the service, and who may call it.

import { isObject, memberOf, pathOf, plain } from "./openapi.js";

/**
 * @import { OpenApi, Path, Position } from "./openapi.js"
 * @typedef {"public" | "user" | { scopes: string[] } | { roles: string[] } | { any: Access[] } | { all: Access[] }} Access
 * @typedef {Position & { message: string }} Fault
 * @typedef {object} Operation
 * @property {string} method
 * @property {string} path pattern of a route, as the service sees it
 * @property {string} [name] operationId
 * @property {Access} [access] who may call it, if the document says so
 * @property {string} [unsupported] what it wants that a gateway does not check, if there is no other way in
 * @property {boolean} isOptional whether credentials are optional
 * @property {{ item: any, operation: any, place: Path }} written as in the document, and where
 * @property {number} line
 * @property {number} column
 *
 * `loose` are operations that cannot be routes of their own; segments of their paths that have a parameter and more are
 * `{partial0}`, `{partial1}` ….
 * @typedef {{ operations: Operation[], faults: Fault[], loose: Operation[] }} Operations
 */

// Operations of a document, as many as a policy has routes.
const OPERATIONS = 20_000;

// References from one path item or security scheme to the next.
const HOPS = 10;

const METHODS = ["get", "head", "post", "put", "patch", "delete", "options"];

// The characters of a fixed segment (crates/policy, `Target`).
const SEGMENT = /^[A-Za-z0-9\-._~!$&'()*+,=:@]+$/;

// RFC 6749, section 3.3.
const SCOPE = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

const ROLE = /^[^\p{C}]{1,256}$/u;

/** A fault of one operation or of one path. */
export class Unmapped extends Error {
  /**
   * @param {string} message
   * @param {Path} [path]
   */
  constructor(message, path) {
    super(message);
    this.path = path;
  }
}

/**
 * Returns the operations of a document, and the faults of those that cannot be routes. `prefix` replaces the
 * path of `servers`; paths at and below those of `exclude` are left out.
 * @param {OpenApi} document
 * @param {{ prefix?: string, exclude?: string[] }} [options]
 * @returns {Operations}
 */
export function readOperations(document, { prefix, exclude = [] } = {}) {
  const { root, positionOf } = document;
  /** @type {Operations} */
  const found = { operations: [], faults: [], loose: [] };
  /**
   * @param {Path} path
   * @param {() => void} work
   */
  const attempt = (path, work) => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof Unmapped)) throw error;
      found.faults.push({ ...positionOf(error.path ?? path), message: error.message });
    }
  };
  /** @param {any} owner */
  const prefixOf = (owner) => (prefix === undefined ? serversPrefix(owner.servers ?? root.servers) : prefix);
  for (const [template, written] of Object.entries(root.paths ?? {})) {
    const isExcluded = exclude.some((path) => template === path || template.startsWith(`${path}/`));
    // An x- is an extension.
    if (isExcluded || template.startsWith("x-")) continue;
    attempt(["paths", template], () => {
      const { value: item, path } = resolve(root, written, ["paths", template]);
      for (const method of Object.keys(item)) {
        const operation = item[method];
        if (method === "trace")
          attempt([...path, method], () => {
            throw new Unmapped(`TRACE ${plain(template)}: routes have no TRACE`);
          });
        if (!METHODS.includes(method) || !isObject(operation)) continue;
        if (found.operations.length >= OPERATIONS)
          throw new Unmapped(`the document has more than ${OPERATIONS} operations`);
        attempt([...path, method], () => {
          const owner = operation.servers === undefined ? item : operation;
          /** @param {string} from @returns {Operation} */
          const read = (from) => ({
            method: method.toUpperCase(),
            path: patternOf(prefixOf(owner), from),
            ...(typeof operation.operationId === "string" && { name: operation.operationId }),
            ...accessOf(document, operation, [...path, method]),
            written: { item, operation, place: [...path, method] },
            ...positionOf([...path, method]),
          });
          const whole = wholeSegments(template);
          if (whole === template) return found.operations.push(read(template));
          found.loose.push(read(whole));
          throw new Unmapped(
            `${plain(template)}: a parameter must be a whole segment of the path, such as /{name}/, for a route`,
          );
        });
      }
    });
  }
  for (const { operation, other } of twins(found.operations)) {
    found.loose.push(operation);
    found.faults.push({
      line: operation.line,
      column: operation.column,
      message: `${operation.method} ${operation.path} is the same as line ${other.line}: names of parameters make no difference`,
    });
  }
  return found;
}

/**
 * Returns a value behind its references within the document, and its path.
 * @param {any} root
 * @param {any} written
 * @param {Path} place
 * @returns {{ value: any, path: Path }}
 */
export function resolve(root, written, place) {
  let [value, path] = [written, place];
  for (let hop = 0; typeof memberOf(value, "$ref") === "string"; hop += 1) {
    const { $ref: reference } = value;
    const shown = plain(reference);
    if (hop === HOPS)
      throw new Unmapped(`${shown}: its references form a circle, or a chain of more than ${HOPS}`, path);
    if (!reference.startsWith("#/"))
      throw new Unmapped(`${shown}: other files and URLs are not read; bundle the document first`, path);
    if (Object.keys(value).some((key) => !["$ref", "summary", "description"].includes(key) && !key.startsWith("x-")))
      throw new Unmapped(`${shown}: a $ref with other members is ambiguous; remove one of the two`, path);
    let next = root;
    let pointer;
    try {
      pointer = pathOf(decodeURIComponent(reference.slice(1)));
    } catch {
      throw new Unmapped(`${shown} is no JSON pointer`, path);
    }
    for (const name of pointer) next = memberOf(next, name);
    if (!isObject(next)) throw new Unmapped(`${shown} leads to nothing in this document`, path);
    [value, path] = [next, pointer];
  }
  return { value, path };
}

/**
 * Returns the path that all servers share, without a slash at its end.
 * @param {any} servers
 */
function serversPrefix(servers) {
  if (!Array.isArray(servers) || servers.length === 0) return "";
  const prefixes = servers.map(({ url, variables }) => {
    const filled = String(url).replace(/\{([^{}]*)\}/g, (whole, name) => {
      const value = memberOf(memberOf(variables, name), "default");
      return value === undefined ? whole : String(value);
    });
    if (!/^(?:https?:\/\/|\/(?!\/))/i.test(filled) || /[{}]/.test(filled))
      throw new Unmapped(`the server ${plain(url)} has no known path; --prefix says where the service's paths begin`, [
        "servers",
      ]);
    let path;
    try {
      ({ pathname: path } = new URL(filled, "http://service.invalid"));
    } catch {
      throw new Unmapped(`the server ${plain(url)} is no URL; --prefix says where the service's paths begin`, [
        "servers",
      ]);
    }
    return path.replace(/\/+$/, "");
  });
  const [first] = prefixes;
  if (prefixes.some((path) => path !== first)) {
    const shown = [...new Set(prefixes)].map((path) => plain(path) || "/").join(", ");
    throw new Unmapped(`the servers have different paths (${shown}); --prefix says which one is meant`, ["servers"]);
  }
  return first;
}

/**
 * Returns a template in which each segment that is a parameter and more is a parameter alone.
 * @param {string} template
 */
function wholeSegments(template) {
  let count = 0;
  return template.replace(/[^/]*\{[^{}/]*\}[^/]*/g, (segment) => {
    if (/^\{[^{}]*\}$/.test(segment)) return segment;
    count += 1;
    return `{partial${count - 1}}`;
  });
}

/**
 * Returns the pattern of a route for a path template.
 * @param {string} prefix
 * @param {string} template
 */
function patternOf(prefix, template) {
  const shown = plain(template);
  if (!template.startsWith("/")) throw new Unmapped(`${shown} must begin with /`);
  const whole = template === "/" ? prefix || "/" : `${prefix}${template}`;
  if (whole === "/") return whole;
  const names = new Set();
  const segments = whole.slice(1).split("/");
  const patterns = segments.map((segment) => {
    const [, name] = /^\{([^{}]*)\}$/.exec(segment) ?? [];
    if (name === undefined) return fixedSegment(segment, shown);
    // Names of parameters have no meaning but for this document and for rules on owners.
    const known = name.replace(/[-.]/g, "_");
    if (!/^[A-Za-z0-9_]{1,100}$/.test(known))
      throw new Unmapped(`${shown}: {${plain(name)}} is no name of a parameter; use letters, digits, -, . and _`);
    if (names.has(known)) throw new Unmapped(`${shown}: the parameter ${known} is there twice`);
    names.add(known);
    return `{${known}}`;
  });
  return `/${patterns.join("/")}`;
}

/**
 * @param {string} segment
 * @param {string} shown
 */
function fixedSegment(segment, shown) {
  if (/[{}]/.test(segment)) throw new Unmapped(`${shown}: braces surround the name of a parameter`);
  if (segment === "") throw new Unmapped(`${shown}: a route has no empty segment and no slash at its end`);
  const decoded = segment.replace(/%([0-9A-Fa-f]{2})/g, (whole, hex) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return SEGMENT.test(character) ? character : whole;
  });
  if (!SEGMENT.test(decoded) || /^\.+$/.test(decoded))
    throw new Unmapped(`${shown}: a segment of a route has letters, digits and -._~!$&'()*+,=:@ only`);
  return decoded;
}

/**
 * Returns who may call an operation (OpenAPI 3.1, "Security Requirement Object").
 * @param {OpenApi} document
 * @param {any} operation
 * @param {Path} place
 * @returns {Pick<Operation, "access" | "unsupported" | "isOptional">}
 */
function accessOf({ root, version }, operation, place) {
  const own = memberOf(operation, "security");
  const path = own === undefined ? ["security"] : [...place, "security"];
  const written = own ?? root.security;
  if (!Array.isArray(written)) return { isOptional: false };
  const alternatives = written.map((requirement) => ruleOf(root, version, requirement, path));
  const supported = alternatives.filter(({ unsupported }) => unsupported === undefined).map(({ rule }) => rule);
  const isOptional = supported.includes("public");
  if (written.length > 0 && supported.length === 0) return { unsupported: alternatives[0].unsupported, isOptional };
  return { access: anyOf(supported), isOptional: isOptional && written.length > 1 };
}

/**
 * Returns the rule of one requirement: all of its schemes.
 * @param {any} root
 * @param {string} version
 * @param {any} requirement
 * @param {Path} path
 * @returns {{ rule: Access, unsupported?: string }}
 */
function ruleOf(root, version, requirement, path) {
  /** @type {Access[]} */
  const rules = [];
  for (const [name, wanted] of Object.entries(requirement)) {
    const written = memberOf(memberOf(root.components, "securitySchemes"), name);
    if (written === undefined) throw new Unmapped(`no security scheme is named ${plain(name)}`, path);
    const { value: scheme } = resolve(root, written, ["components", "securitySchemes", name]);
    const isBearer = scheme.type === "http" && String(scheme.scheme).toLowerCase() === "bearer";
    const hasScopes = scheme.type === "oauth2" || scheme.type === "openIdConnect";
    if (!isBearer && !hasScopes)
      return {
        rule: "user",
        unsupported: `${plain(name)} (${plain(scheme.type)}${scheme.scheme ? ` ${plain(scheme.scheme)}` : ""})`,
      };
    if (wanted.length > 0 && isBearer && version === "3.0")
      throw new Unmapped(
        `${plain(name)}: bearer tokens have no scopes in OpenAPI 3.0; use type oauth2 or openIdConnect`,
        path,
      );
    const form = hasScopes ? SCOPE : ROLE;
    for (const one of wanted) {
      if (!form.test(one))
        throw new Unmapped(
          `${plain(name)}: ${plain(one)} is no ${hasScopes ? "scope (RFC 6749, section 3.3)" : "role"}`,
          path,
        );
      // Without scopes of its own, a scheme names roles (OpenAPI 3.1).
      rules.push(hasScopes ? { scopes: [one] } : { roles: [one] });
    }
    rules.push("user");
  }
  if (rules.length === 0) return { rule: "public" };
  const strict = distinct(rules.filter((rule) => rule !== "user"));
  if (strict.length === 0) return { rule: "user" };
  return { rule: strict.length === 1 ? strict[0] : { all: strict } };
}

/**
 * Returns the rule that one of several rules suffices. Without any, no credentials are needed.
 * @param {Access[]} rules
 * @returns {Access}
 */
function anyOf(rules) {
  if (rules.length === 0 || rules.includes("public")) return "public";
  if (rules.includes("user")) return "user";
  /** @type {Access[]} */
  const merged = [];
  for (const kind of /** @type {const} */ (["scopes", "roles"])) {
    const names = rules.flatMap((rule) => memberOf(rule, kind) ?? []);
    if (names.length > 0) merged.push(/** @type {Access} */ ({ [kind]: [...new Set(names)] }));
  }
  merged.push(...distinct(rules.filter((rule) => memberOf(rule, "all") !== undefined)));
  return merged.length === 1 ? merged[0] : { any: merged };
}

/** @param {Access[]} rules */
const distinct = (rules) => [...new Map(rules.map((rule) => [JSON.stringify(rule), rule])).values()];

/**
 * Returns a pattern without the names of its parameters.
 * @param {string} pattern
 */
export const shapeOf = (pattern) => pattern.replace(/\{(\*?)[^}]*\}/g, "{$1}");

/**
 * Returns the operations that take the same requests as an earlier one, and removes them.
 * @param {Operation[]} operations
 */
function twins(operations) {
  const known = new Map();
  const found = [];
  for (const operation of operations.splice(0)) {
    const key = `${operation.method} ${shapeOf(operation.path)}`;
    const other = known.get(key);
    if (other === undefined) {
      known.set(key, operation);
      operations.push(operation);
    } else found.push({ operation, other });
  }
  return found;
}
