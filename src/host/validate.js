// Checks requests against an OpenAPI document, with the validators that scripts/lib/openapi-validators.js compiled.
// Reads bodies within the bounds that it gets; src/pipeline/findings.rs judges what it finds.

import { readToKeep } from "./body.js";

/**
 * A function of ajv. It is synchronous and stops at the first error.
 * @typedef {{ instancePath: string, keyword: string, message?: string, params: Record<string, any> }} SchemaError
 * @typedef {{ (value: unknown): boolean, errors?: SchemaError[] | null }} Check
 *
 * A parameter. An `array` is split at the separator, or has one value for each repetition.
 * @typedef {object} Parameter
 * @property {"path" | "query" | "header"} place
 * @property {string} name
 * @property {boolean} required
 * @property {"value" | "array" | "json"} kind
 * @property {string} [separator]
 * @property {boolean} [allowsEmpty]
 * @property {number} [segment] of the path
 * @property {Check} check
 *
 * @typedef {object} Operation
 * @property {string} method
 * @property {(string | null)[]} segments fixed segments of the path; null for a parameter
 * @property {Parameter[]} parameters
 * @property {{ required: boolean, types: { type: string, check: Check | null }[] } | null} body
 *
 * The operations, the more specific ones first, by method and number of segments.
 * @typedef {{ digest: string, operations: Map<string, Operation[]> }} Validator
 *
 * Place, name or pointer, and what is wanted there. It holds no value of the request.
 * @typedef {[place: string, name: string, message: string]} Finding
 */

// Levels of a JSON body; checks of nested values are recursive.
const DEPTH = 64;

const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/;

/**
 * Checks a request. The lines of `packed` are its target, method, and alternating names and values of headers. Returns
 * the result, and three lines for each finding. A body that was read is kept for `forward`.
 * @param {Request} request
 * @param {Validator | undefined} validator
 * @param {string} packed
 * @param {number} maxBytes
 * @param {number} timeoutMs
 */
export async function validate(request, validator, packed, maxBytes, timeoutMs) {
  const [target, method, ...pairs] = packed.split("\n");
  const at = target.indexOf("?");
  const [path, query] = at < 0 ? [target, ""] : [target.slice(0, at), target.slice(at + 1)];
  const segments = path.slice(1).split("/");
  const operation = findOperation(validator, method, segments);
  if (operation === undefined) return lines("400", [["path", "", "is no operation of the document"]]);
  /** @type {Map<string, string>} */
  const headers = new Map();
  for (let index = 0; index + 1 < pairs.length; index += 2) headers.set(pairs[index].toLowerCase(), pairs[index + 1]);
  const findings = checkParameters(operation, segments, new URLSearchParams(query), headers);
  const body = await checkBody(request, operation.body, headers, maxBytes, timeoutMs);
  if (body.result !== "") return lines(body.result, body.findings);
  findings.push(...body.findings);
  return findings.length === 0 ? "" : lines("400", findings);
}

/**
 * @param {Validator | undefined} validator
 * @param {string} method
 * @param {string[]} segments
 */
function findOperation(validator, method, segments) {
  /** @param {string} name */
  const find = (name) =>
    validator?.operations
      .get(`${name} ${segments.length}`)
      ?.find((operation) =>
        operation.segments.every((segment, index) =>
          segment === null ? segments[index] !== "" : segment === segments[index],
        ),
      );
  return find(method) ?? (method === "HEAD" ? find("GET") : undefined);
}

/**
 * @param {string} result
 * @param {Finding[]} findings
 */
function lines(result, findings) {
  return [result, ...findings.flat().map((text) => text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, " "))].join("\n");
}

/**
 * @param {Operation} operation
 * @param {string[]} segments
 * @param {URLSearchParams} query
 * @param {Map<string, string>} headers
 */
function checkParameters({ parameters }, segments, query, headers) {
  /** @type {Finding[]} */
  const findings = [];
  for (const parameter of parameters) {
    const { place, name, required, segment = -1 } = parameter;
    /** @type {string[]} */
    let given;
    if (place === "path") {
      const text = decode(segments[segment]);
      given = text === undefined ? [] : [text];
    } else if (place === "query") given = query.getAll(name);
    else given = headers.has(name) ? [/** @type {string} */ (headers.get(name))] : [];
    const message = given.length === 0 ? (required ? "is required" : undefined) : checkParameter(parameter, given);
    if (message !== undefined) findings.push([place, name, message]);
  }
  return findings;
}

/** @param {string} segment */
function decode(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return undefined;
  }
}

/**
 * Returns what is wrong with a parameter. Texts stand for themselves and for what they may be in JSON.
 * @param {Parameter} parameter
 * @param {string[]} given
 */
function checkParameter({ kind, separator, allowsEmpty, check }, given) {
  if (kind === "array") {
    const items =
      separator === undefined
        ? given
        : given.flatMap((text) => (text === "" ? [] : text.split(separator).map((item) => item.trim())));
    if (separator !== undefined && given.length > 1) return "is there twice";
    return check(items.map(readValue)) || check(items) ? undefined : messageOf(check);
  }
  const [text] = given;
  // Services take the first or the last.
  if (given.length > 1) return "is there twice";
  if (text === "" && allowsEmpty) return undefined;
  if (kind === "value") {
    if (check(text)) return undefined;
    const asText = messageOf(check);
    const value = readValue(text);
    if (value === text || check(value)) return value === text ? asText : undefined;
    // Of the two readings, the one that has the right type.
    return check.errors?.[0]?.keyword === "type" ? asText : messageOf(check);
  }
  const { value, fault } = readJson(text);
  return fault?.[2] ?? (check(value) ? undefined : messageOf(check));
}

/**
 * @param {string} text
 * @returns {unknown}
 */
function readValue(text) {
  if (text === "true" || text === "false") return text === "true";
  return NUMBER.test(text) ? Number(text) : text;
}

/** @param {Check} check */
function messageOf(check) {
  const { message = "is not valid", params = {}, keyword } = check.errors?.[0] ?? {};
  // Values and names of the document, never of the request.
  if (keyword === "enum") return `${message}: ${JSON.stringify(params.allowedValues)}`;
  return keyword === "const" ? `${message} ${JSON.stringify(params.allowedValue)}` : message;
}

/**
 * @typedef {{ result: string, findings: Finding[] }} BodyResult
 * @param {Request} request
 * @param {Operation["body"]} body
 * @param {Map<string, string>} headers
 * @param {number} maxBytes
 * @param {number} timeoutMs
 * @returns {Promise<BodyResult>}
 */
async function checkBody(request, body, headers, maxBytes, timeoutMs) {
  const valid = { result: "", findings: [] };
  /** @param {Finding[]} findings @returns {BodyResult} */
  const invalid = (...findings) => ({ result: "", findings });
  /** @param {string} name @param {string} message @returns {BodyResult} */
  const unsupported = (name, message) => ({ result: "415", findings: [["header", name, message]] });
  const isAbsent = request.body === null;
  if (isAbsent) return body?.required ? invalid(["body", "", "is required"]) : valid;
  const given = headers.get("content-type");
  const media = mediaTypeOf(given);
  const accepted = body === null || media === undefined ? undefined : typeFor(body.types, media.type);
  const isJson = media !== undefined && /^application\/json$|\+json$/.test(media.type);
  // Other bodies are passed on as they arrive.
  if (accepted !== undefined && !(isJson && accepted.check !== null)) return valid;
  const read = await readToKeep(request, maxBytes, timeoutMs);
  if (typeof read === "string") return { result: read, findings: [] };
  if (read.byteLength === 0) return body?.required ? invalid(["body", "", "is required"]) : valid;
  if (body === null) return invalid(["body", "", "is not part of this operation"]);
  if (given === undefined) return unsupported("content-type", "is missing");
  if (accepted === undefined) {
    return unsupported("content-type", `must be ${body.types.map(({ type }) => type).join(" or ")}`);
  }
  if ((headers.get("content-encoding") ?? "identity").toLowerCase() !== "identity") {
    return unsupported("content-encoding", "must be absent, because the body is checked");
  }
  if (media?.charset !== undefined && media.charset !== "utf-8") return unsupported("content-type", "must be UTF-8");
  const text = textOf(read);
  if (text === undefined) return invalid(["body", "", "is not UTF-8"]);
  const { value, fault } = readJson(text);
  if (fault !== undefined) return invalid(fault);
  const check = /** @type {Check} */ (accepted.check);
  return check(value) ? valid : invalid(["body", check.errors?.[0]?.instancePath ?? "", messageOf(check)]);
}

/**
 * Returns the media type and its charset in lower case (RFC 9110, section 8.3.1).
 * @param {string | undefined} text
 */
function mediaTypeOf(text) {
  const [, type, parameters = ""] = /^\s*([\w!#$&^.+-]+\/[\w!#$&^.+-]+)\s*(;.*)?$/.exec(text ?? "") ?? [];
  if (type === undefined) return undefined;
  const charset = /;\s*charset\s*=\s*"?([^\s";]*)/i.exec(parameters)?.[1];
  return { type: type.toLowerCase(), charset: charset?.toLowerCase() };
}

/**
 * Returns the most specific entry for a media type.
 * @param {{ type: string, check: Check | null }[]} types
 * @param {string} type
 */
function typeFor(types, type) {
  const [main] = type.split("/");
  return [type, `${main}/*`, "*/*"].map((wanted) => types.find((one) => one.type === wanted)).find(Boolean);
}

/** @param {Uint8Array} bytes */
function textOf(bytes) {
  try {
    // A byte order mark is no JSON (RFC 8259, section 8.1).
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/**
 * Reads JSON in which no object has a member twice: parsers differ in which of the two counts.
 * @param {string} text
 * @returns {{ value?: unknown, fault?: Finding }}
 */
function readJson(text) {
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    return { fault: ["body", "", "is not JSON"] };
  }
  const fault = findRepeated(text);
  return fault === undefined ? { value } : { fault };
}

/**
 * Returns the first member that an object of a JSON text has twice, or the first value that nests too deeply.
 * @param {string} text
 * @returns {Finding | undefined}
 */
function findRepeated(text) {
  /** @type {{ names: Set<string> | null, step: string | number, awaitsName: boolean }[]} */
  const open = [];
  const pointer = () => open.map(({ step }) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\],]/g)) {
    const top = open.at(-1);
    if (token === "{" || token === "[") {
      open.push({ names: token === "{" ? new Set() : null, step: 0, awaitsName: token === "{" });
      if (open.length > DEPTH) return ["body", "", `nests more than ${DEPTH} levels`];
    } else if (token === "}" || token === "]") open.pop();
    else if (top === undefined) continue;
    else if (token === ",") {
      if (top.names === null) top.step = /** @type {number} */ (top.step) + 1;
      else top.awaitsName = true;
    } else if (top.names !== null && top.awaitsName) {
      const name = JSON.parse(token);
      top.step = name;
      top.awaitsName = false;
      if (top.names.has(name)) return ["body", pointer(), "is there twice"];
      top.names.add(name);
    }
  }
  return undefined;
}
