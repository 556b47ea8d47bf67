// Checks requests against an OpenAPI document, with the validators that cli/lib/openapi-validators.js compiled.
// Reads bodies within the bounds that it gets; src/pipeline/validation.rs judges what it finds.

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

// Parameters of a media type (RFC 9110, section 5.6.6); the value is a token or quoted.
const PARAMETER = /[ \t]*;[ \t]*(?:([\w!#$%&'*+.^`|~-]+)=(?:([\w!#$%&'*+.^`|~-]+)|"((?:[^"\\]|\\.)*)"))?/y;

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
  const findings = checkParameters(operation, segments, query, headers);
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
 * @param {string} query
 * @param {Map<string, string>} headers
 */
function checkParameters({ parameters }, segments, query, headers) {
  const pairs = query.split("&").filter(Boolean).map(readPair);
  const findings = findSpellings(parameters, pairs);
  for (const parameter of parameters) {
    const { place, name, required, segment = -1 } = parameter;
    /** @type {Given[]} */
    let given;
    if (place === "path") given = [{ raw: segments[segment], decode }];
    else if (place === "query") given = pairs.filter((pair) => pair.name === name);
    else given = headers.has(name) ? [{ raw: headers.get(name) ?? "", decode: trim }] : [];
    if (given.some(({ raw, decode: read }) => read(raw) === undefined)) given = [];
    const message = given.length === 0 ? (required ? "is required" : undefined) : checkParameter(parameter, given);
    if (message !== undefined) findings.push([place, name, message]);
  }
  return findings;
}

/**
 * A name and a value as they are in a form (WHATWG URL, section 5.1).
 * @param {string} pair
 */
function readPair(pair) {
  const at = pair.indexOf("=");
  const [name, raw] = at < 0 ? [pair, ""] : [pair.slice(0, at), pair.slice(at + 1)];
  return { name: decodeForm(name), raw, decode: decodeForm };
}

/**
 * Finds query parameters that some services take for one of the document: `name[]`, `name[x]`, other cases.
 * @param {Parameter[]} parameters
 * @param {{ name: string }[]} pairs
 */
function findSpellings(parameters, pairs) {
  const known = parameters.filter(({ place }) => place === "query").map(({ name }) => name);
  const spellings = new Map(known.map((name) => [plainName(name.replace(/\[\]$/, "")), name]));
  /** @type {Map<string, Finding>} */
  const found = new Map();
  for (const { name } of pairs) {
    const meant = known.includes(name) ? undefined : spellings.get(plainName(name));
    if (meant !== undefined) found.set(meant, ["query", meant, "is there in another spelling"]);
  }
  return [...found.values()];
}

/** @param {string} name */
const plainName = (name) => name.split(/[[\0]/, 1)[0].trim().toLowerCase();

/** @param {string} text */
const decodeForm = (text) => new URLSearchParams(`_=${text}`).get("_") ?? "";

/** @param {string} text */
const trim = (text) => text.trim();

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
 * @typedef {{ raw: string, decode: (text: string) => string | undefined }} Given
 * @param {Parameter} parameter
 * @param {Given[]} given
 */
function checkParameter({ kind, separator, allowsEmpty, check }, given) {
  const texts = given.map(({ raw, decode: read }) => read(raw) ?? "");
  const [text] = texts;
  if (kind === "array") {
    if (separator !== undefined && given.length > 1) return "is there twice";
    const items = separator === undefined ? texts : splitAt(separator, given[0]);
    return check(items.map(readValue)) || check(items) ? undefined : messageOf(check);
  }
  // Services take the first or the last.
  if (texts.length > 1) return "is there twice";
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
 * Returns the items of a text. A comma separates as it is, and `%2C` is part of an item (RFC 6570, section 3.2.1); other
 * separators are always encoded.
 * @param {string} separator
 * @param {Given} given
 */
function splitAt(separator, { raw, decode: read }) {
  if (raw === "") return [];
  if (separator === ",") return raw.split(",").map((item) => read(item) ?? "");
  return (read(raw) ?? "").split(separator);
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
  // A long body is there, so its type counts first.
  const isLong = read === "over_limit" && accepted === undefined;
  if (typeof read === "string" && !isLong) return { result: read, findings: [] };
  if (typeof read !== "string" && read.byteLength === 0)
    return body?.required ? invalid(["body", "", "is required"]) : valid;
  if (body === null) return invalid(["body", "", "is not part of this operation"]);
  if (given === undefined) return unsupported("content-type", "is missing");
  if (accepted === undefined) {
    return unsupported("content-type", `must be ${body.types.map(({ type }) => type).join(" or ")}`);
  }
  if ((headers.get("content-encoding") ?? "identity").toLowerCase() !== "identity") {
    return unsupported("content-encoding", "must be absent, because the body is checked");
  }
  if (media?.charset !== undefined && media.charset !== "utf-8") return unsupported("content-type", "must be UTF-8");
  const text = textOf(/** @type {Uint8Array} */ (read));
  if (text === undefined) return invalid(["body", "", "is not UTF-8"]);
  const { value, fault } = readJson(text);
  if (fault !== undefined) return invalid(fault);
  const check = /** @type {Check} */ (accepted.check);
  return check(value) ? valid : invalid(["body", check.errors?.[0]?.instancePath ?? "", messageOf(check)]);
}

/**
 * Returns the media type and its charset in lower case (RFC 9110, section 8.3.1). The charset is empty if it is there
 * twice, in another form, or in parameters that cannot be read: services differ in what they take.
 * @param {string | undefined} text
 */
function mediaTypeOf(text) {
  const [, type, parameters = ""] = /^\s*([\w!#$&^.+-]+\/[\w!#$&^.+-]+)\s*(;.*)?$/.exec(text ?? "") ?? [];
  if (type === undefined) return undefined;
  /** @type {string[]} */
  const charsets = [];
  let end = 0;
  PARAMETER.lastIndex = 0;
  for (let found = PARAMETER.exec(parameters); found !== null; found = PARAMETER.exec(parameters)) {
    end = PARAMETER.lastIndex;
    const [, name = "", token, quoted = ""] = found;
    if (/^charset\b/i.test(name)) charsets.push(name.length > 7 ? "" : (token ?? quoted.replace(/\\(.)/g, "$1")));
  }
  const isClear = charsets.length < 2 && parameters.slice(end).trim() === "";
  return { type: type.toLowerCase(), charset: isClear ? charsets[0]?.toLowerCase() : "" };
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
 * Returns the first member that an object of a JSON text has twice, the first value that nests too deeply, or the first
 * number that another parser may read as another one.
 * @param {string} text
 * @returns {Finding | undefined}
 */
function findRepeated(text) {
  /** @type {{ names: Set<string> | null, step: string | number, awaitsName: boolean }[]} */
  const open = [];
  const pointer = () => open.map(({ step }) => `/${String(step).replaceAll("~", "~0").replaceAll("/", "~1")}`).join("");
  for (const [token] of text.matchAll(/"(?:[^"\\]+|\\.)*"|[{}[\],]|[-\d][-+.\deE]*/g)) {
    const top = open.at(-1);
    if (token === "{" || token === "[") {
      open.push({ names: token === "{" ? new Set() : null, step: 0, awaitsName: token === "{" });
      if (open.length > DEPTH) return ["body", "", `nests more than ${DEPTH} levels`];
    } else if (token === "}" || token === "]") open.pop();
    else if (/[-\d]/.test(token[0])) {
      if (Math.abs(Number(token)) > Number.MAX_SAFE_INTEGER) return ["body", pointer(), "is a number beyond 2^53"];
    } else if (top === undefined) continue;
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
