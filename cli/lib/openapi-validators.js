// Compiles the schemas of an OpenAPI document to JavaScript, because the Worker may evaluate no text. src/host/validate.js
// uses what it writes.

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { runInNewContext } from "node:vm";

import { OpenApiError, isObject, load, memberOf, pathOf, plain } from "./openapi.js";
import { findCostly } from "./openapi-costs.js";
import { Unmapped, resolve } from "./openapi-operations.js";

/**
 * @import { OpenApi, Path } from "./openapi.js"
 * @import { Fault, Operation } from "./openapi-operations.js"
 * @typedef {{ digest: string, source: string, notes: Fault[] }} Compiled
 */

const require = createRequire(import.meta.url);

// Bytes of the JavaScript. A Worker has 3 MB compressed on the smallest plan.
const SOURCE_BYTES = 4 * 1024 * 1024;

// Headers that are no parameters (OpenAPI 3.1, "Parameter Object"), and those that the gateway makes.
const NO_PARAMETERS = new Set(["accept", "content-type", "authorization", "x-gateway-assertion"]);

const DIALECTS = ["https://spec.openapis.org/oas/3.1/dialect/base", "https://json-schema.org/draft/2020-12/schema"];

// A module that code of ajv loads.
const REQUIRED = /\brequire\("([^"]+)"\)/g;

const JSON_TYPE = /^(?:application\/json|[^/]+\/[^/]*\+json|application\/\*|\*\/\*)$/;

// Members of a schema that hold schemas: one, several, or one for each name.
const ONE = ["additionalProperties", "unevaluatedProperties", "items", "unevaluatedItems", "contains", "propertyNames"];
const MORE = ["not", "if", "then", "else", "contentSchema"];
const LISTS = ["allOf", "anyOf", "oneOf", "prefixItems"];
const MAPS = ["properties", "patternProperties", "dependentSchemas", "dependencies", "$defs", "definitions"];

// Members that change what references mean.
const SCOPES = ["$id", "$dynamicRef", "$recursiveRef"];

// Members that say nothing about which values are valid.
const ANNOTATIONS = [
  "example",
  "examples",
  "default",
  "xml",
  "externalDocs",
  "discriminator",
  "deprecated",
  "description",
  "$schema",
];

/**
 * Compiles the validators of operations. Throws an OpenApiError. `notes` are what is not checked.
 * @param {OpenApi} document
 * @param {Operation[]} operations
 * @param {string} name the document's name in messages
 * @returns {Promise<Compiled>}
 */
export async function compileValidators(document, operations, name) {
  try {
    return await compile(document, operations, name);
  } catch (error) {
    if (!(error instanceof Unmapped)) throw error;
    throw new OpenApiError(name, [{ ...document.positionOf(error.path ?? []), message: error.message }]);
  }
}

/** @type {typeof compileValidators} */
async function compile(document, operations, name) {
  const { root, version, positionOf } = document;
  /** @type {Fault[]} */
  const notes = [];
  /** @param {Path} place @param {string} message */
  const note = (place, message) => notes.push({ ...positionOf(place), message });
  /** @param {Path} place @param {string} message @returns {never} */
  const fail = (place, message) => {
    throw new OpenApiError(name, [{ ...positionOf(place), message }]);
  };
  if (![undefined, ...DIALECTS].includes(root.jsonSchemaDialect))
    fail(["jsonSchemaDialect"], "jsonSchemaDialect is not checked; leave it out for JSON Schema 2020-12");
  // All schemas are parts of one, so that references between them hold.
  const schemas = Object.entries(memberOf(root.components, "schemas") ?? {});
  const components = {
    schemas: Object.fromEntries(schemas.map(([key, schema]) => [key, adapt(root, schema, version)])),
  };
  /** @type {{ schema: any, place: Path }[]} */
  const used = [];
  /** @param {any} schema @param {Path} place */
  const use = (schema, place) => used.push({ schema: adapt(root, schema, version), place }) - 1;

  const described = operations.map(({ method, path, written }) => {
    const { item, operation, place } = written;
    const segments = path.slice(1).split("/");
    const templateSegments = segments.map((segment) => (segment.startsWith("{") ? null : segment));
    const parameters = parametersOf(document, item, operation, place).flatMap(({ parameter, path: at }) => {
      const { in: where, name: given } = parameter;
      if (where === "cookie" || (where === "header" && NO_PARAMETERS.has(given.toLowerCase()))) return [];
      const form = formOf(root, parameter);
      if (form.fault !== undefined) {
        note(at, `the ${where} parameter ${plain(given)} is not checked: ${form.fault}`);
        return [];
      }
      const segment = segments.indexOf(`{${given.replace(/[-.]/g, "_")}}`);
      if (where === "path" && segment < 0) fail(at, `the path has no parameter {${plain(given)}}`);
      const key = where === "header" ? given.toLowerCase() : given;
      return [
        {
          ...{ place: where, name: key, required: parameter.required === true, kind: form.kind },
          ...(form.separator !== undefined && { separator: form.separator }),
          ...(parameter.allowEmptyValue === true && { allowsEmpty: true }),
          ...(where === "path" && { segment }),
          check: use(form.schema, at),
        },
      ];
    });
    return { method, segments: templateSegments, parameters, body: bodyOf(document, operation, place, use) };
  });

  const { default: Ajv2020 } = await load(() => import("ajv/dist/2020.js"));
  const { default: standalone } = await load(() => import("ajv/dist/standalone/index.js"));
  const { default: addFormats } = await load(() => import("ajv-formats"));
  const warn = (/** @type {any} */ message) => {
    const [, format] = /^unknown format "(.*)" ignored in schema at path "/s.exec(String(message)) ?? [];
    const text = format === undefined ? plain(message) : `the format ${plain(format)} is unknown and not checked`;
    if (!notes.some((known) => known.message === text))
      note((format && findMember(root, "format", format)) || [], text);
  };
  const ajv = new /** @type {any} */ (Ajv2020)({
    // The first error: a body may have as many errors as values.
    allErrors: false,
    // Members that every JavaScript object has are not there.
    ownProperties: true,
    strict: false,
    validateSchema: false,
    logger: { log() {}, warn, error: warn },
    code: { source: true, lines: false },
  });
  /** @type {any} */ (addFormats)(ajv);
  // Its pattern takes quadratic time.
  delete ajv.formats.url;
  for (const [key, schema] of Object.entries(components.schemas))
    checkSchema(ajv, schema, ["components", "schemas", key], fail);
  for (const { schema, place } of used) checkSchema(ajv, schema, place, fail);
  const costly = findCostly(
    { components },
    used.map(({ schema }) => schema),
  );
  if (costly !== undefined) fail(placeOf(costly.schema, components, used), costly.message);
  /** @param {() => void} work @param {Path} place */
  const attempt = (work, place) => {
    try {
      work();
    } catch (error) {
      fail(place, plain(/** @type {Error} */ (error).message));
    }
  };
  attempt(() => ajv.addSchema({ components, used: used.map(({ schema }) => schema) }, "openapi"), []);
  /** @type {Record<string, string>} */
  const exported = {};
  for (const [index, { place }] of used.entries()) {
    exported[`v${index}`] = `v${index}`;
    ajv.addSchema({ $ref: `openapi#/used/${index}` }, `v${index}`);
    attempt(() => ajv.getSchema(`v${index}`), place);
  }
  const code = used.length === 0 ? "" : /** @type {any} */ (standalone)(ajv, exported);
  const source = moduleOf(code, described);
  if (source.length > SOURCE_BYTES) fail([], `its validators have more than ${SOURCE_BYTES} bytes`);
  try {
    // Patterns are compiled when the Worker starts, so a wrong one must be found here.
    runInNewContext(source, {}, { timeout: 10_000 });
  } catch (error) {
    fail([], `its validators cannot be used: ${plain(/** @type {Error} */ (error).message)}`);
  }
  const digest = createHash("sha256").update(source).digest("hex").slice(0, 16);
  return { digest, source, notes };
}

/**
 * Returns the module of all upstreams' validators.
 * @param {Map<string, Compiled>} compiled
 */
export function validatorsModule(compiled) {
  const entries = [...compiled].map(
    ([upstream, { digest, source }]) =>
      `  [${JSON.stringify(upstream)}, { digest: ${JSON.stringify(digest)}, operations: ${source} }],\n`,
  );
  return (
    "// Validators of requests, compiled from the OpenAPI documents of the policy.\n" +
    `const validators = new Map([\n${entries.join("")}]);\n` +
    "export const digestOf = (upstream) => validators.get(upstream)?.digest;\n" +
    "export const validatorOf = (upstream) => validators.get(upstream);\n"
  );
}

/**
 * Returns an expression for the operations by method and number of segments, with the functions of ajv within it.
 * @param {string} code CommonJS
 * @param {{ method: string, segments: (string | null)[] }[]} described
 */
function moduleOf(code, described) {
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const operation of described) {
    const key = `${operation.method} ${operation.segments.length}`;
    const group = groups.get(key) ?? [];
    groups.set(key, group);
    group.push(operation);
  }
  // Paths of different lengths have no order.
  for (const group of groups.values()) group.sort(bySpecificity);
  // Text of the document is in strings of JSON only, where U+2028 is allowed (ES2019).
  const data = JSON.stringify([...groups]);
  return `(() => {
const exports = {};
${selfContained(code)}
const link = (entry) => { if (entry && typeof entry.check === "number") entry.check = exports["v" + entry.check]; };
const operations = new Map(${data});
for (const operation of [...operations.values()].flat()) {
  operation.parameters.forEach(link);
  operation.body?.types.forEach(link);
}
return operations;
})()`;
}

/**
 * Fixed segments before parameters, as in the order of routes. Both have as many segments.
 * @param {{ segments: (string | null)[] }} one
 * @param {{ segments: (string | null)[] }} other
 */
function bySpecificity({ segments: one }, { segments: other }) {
  const at = one.findIndex((segment, index) => (segment === null) !== (other[index] === null));
  return at < 0 ? 0 : one[at] === null ? 1 : -1;
}

/**
 * Returns code of ajv whose modules are within it: the Worker loads none.
 * @param {string} code
 */
function selfContained(code) {
  /** @type {Map<string, string>} */
  const files = new Map();
  /** @param {string} file */
  const keyOf = (file) => JSON.stringify(file.slice(file.lastIndexOf("node_modules/") + "node_modules/".length));
  /**
   * @param {string} text
   * @param {NodeJS.Require} from
   * @returns {string}
   */
  const collect = (text, from) =>
    text.replace(REQUIRED, (_, name) => {
      const file = from.resolve(name);
      if (!files.has(file)) {
        files.set(file, "");
        files.set(file, collect(readFileSync(file, "utf8"), createRequire(file)));
      }
      return `use(${keyOf(file)})`;
    });
  const own = collect(code, require);
  const modules = [...files].map(([file, text]) => `${keyOf(file)}: (exports, module) => {\n${text}\n},\n`);
  return `const modules = {\n${modules.join("")}};
const loaded = {};
const use = (name) => {
  if (loaded[name] === undefined) {
    loaded[name] = { exports: {} };
    modules[name](loaded[name].exports, loaded[name]);
  }
  return loaded[name].exports;
};
${own}`;
}

/**
 * Returns the parameters of an operation; its own ones replace those of its path.
 * @param {OpenApi} document
 * @param {any} item
 * @param {any} operation
 * @param {Path} place
 */
function parametersOf({ root }, item, operation, place) {
  const found = new Map();
  for (const [list, at] of /** @type {[any, Path][]} */ ([
    [item.parameters, place.slice(0, -1)],
    [operation.parameters, place],
  ])) {
    for (const [index, written] of (list ?? []).entries()) {
      const { value: parameter, path } = resolve(root, written, [...at, "parameters", index]);
      found.set(`${parameter.in} ${parameter.name}`, { parameter, path });
    }
  }
  return [...found.values()];
}

/**
 * Returns how a parameter is read, or why it is not.
 * @param {any} root
 * @param {any} parameter
 * @returns {{ kind?: string, separator?: string, schema?: any, fault?: string }}
 */
function formOf(root, parameter) {
  if (parameter.content !== undefined) {
    const [[type, { schema = true }]] = Object.entries(parameter.content);
    return JSON_TYPE.test(type.toLowerCase()) ? { kind: "json", schema } : { fault: `it has the type ${plain(type)}` };
  }
  const { in: place, schema = true } = parameter;
  const style = parameter.style ?? (place === "query" ? "form" : "simple");
  const explode = parameter.explode ?? style === "form";
  const types = typesOf(root, schema);
  if (types.has("object")) return { fault: "it is an object" };
  /** @type {Record<string, string>} */
  const separators = { form: ",", spaceDelimited: " ", pipeDelimited: "|", simple: "," };
  if (separators[style] === undefined) return { fault: `it has the style ${plain(style)}` };
  if (!types.has("array")) return { kind: "value", schema };
  if (types.size > 1) return { fault: "it is an array or something else" };
  return { kind: "array", schema, ...(style === "form" && explode ? {} : { separator: separators[style] }) };
}

/**
 * Returns the types that a schema names, as far as they decide how a text is read.
 * @param {any} root
 * @param {any} schema
 * @param {Set<any>} [seen]
 * @returns {Set<string>}
 */
function typesOf(root, schema, seen = new Set()) {
  if (!isObject(schema) || seen.has(schema)) return new Set();
  seen.add(schema);
  const types = new Set([schema.type ?? []].flat());
  if (types.size === 0 && isObject(schema.properties)) types.add("object");
  if (types.size === 0 && (schema.items !== undefined || schema.prefixItems !== undefined)) types.add("array");
  const more = [schema.allOf, schema.anyOf, schema.oneOf].flat().filter(isObject);
  more.push(targetOf(root, schema));
  for (const one of more) for (const type of typesOf(root, one, seen)) types.add(type);
  types.delete("null");
  return types;
}

/**
 * @param {OpenApi} document
 * @param {any} operation
 * @param {Path} place
 * @param {(schema: any, place: Path) => number} use
 */
function bodyOf({ root }, operation, place, use) {
  if (operation.requestBody === undefined) return null;
  const { value: body, path } = resolve(root, operation.requestBody, [...place, "requestBody"]);
  const types = Object.entries(body.content ?? {}).map(([written, media]) => {
    const [type] = written.toLowerCase().split(";");
    const { schema } = /** @type {any} */ (media);
    const isChecked = JSON_TYPE.test(type.trim()) && schema !== undefined;
    return { type: type.trim(), check: isChecked ? use(schema, [...path, "content", written, "schema"]) : null };
  });
  return { required: body.required === true, types };
}

/**
 * Returns the schema that another one refers to.
 * @param {any} root
 * @param {any} schema
 */
function targetOf(root, { $ref }) {
  if (typeof $ref !== "string" || !$ref.startsWith("#/")) return undefined;
  let next = root;
  for (const name of pathOf(decodeURIComponent($ref.slice(1)))) next = memberOf(next, name);
  return next;
}

/**
 * Returns the names of the members that only answers have, as a schema and those of its `allOf` say.
 * @param {any} root
 * @param {any} schema
 * @param {Set<any>} [seen]
 * @returns {string[]}
 */
function answered(root, schema, seen = new Set()) {
  if (!isObject(schema) || seen.has(schema)) return [];
  seen.add(schema);
  const { properties = {}, allOf = [] } = schema;
  const own = Object.entries(properties).filter(([, one]) => isAnswered(root, one));
  const more = [targetOf(root, schema), ...allOf].flatMap((one) => answered(root, one, seen));
  return [...own.map(([name]) => name), ...more];
}

/**
 * @param {any} root
 * @param {any} schema
 * @param {Set<any>} [seen]
 * @returns {boolean}
 */
function isAnswered(root, schema, seen = new Set()) {
  if (!isObject(schema) || seen.has(schema)) return false;
  seen.add(schema);
  if (memberOf(schema, "readOnly") === true) return true;
  return [targetOf(root, schema), ...(schema.allOf ?? [])].some((one) => isAnswered(root, one, seen));
}

/**
 * Returns a schema in JSON Schema 2020-12, as a request is checked. `readOnly` are members that only answers have, by
 * a schema with this one in its `allOf`.
 * @param {any} root
 * @param {any} schema
 * @param {string} version
 * @param {string[]} [readOnly]
 * @returns {any}
 */
function adapt(root, schema, version, readOnly = []) {
  if (!isObject(schema)) return schema;
  const isOld = version === "3.0";
  // In 3.0, members next to a reference have no meaning.
  if (isOld && typeof schema.$ref === "string") return adapt(root, { $ref: schema.$ref }, "3.1");
  const scope = SCOPES.find((key) => Object.hasOwn(schema, key));
  if (scope !== undefined)
    throw new Unmapped(`a schema cannot be checked with ${scope}`, findMember(root, scope, schema[scope]));
  if (![undefined, ...DIALECTS].includes(schema.$schema))
    throw new Unmapped(
      `${plain(schema.$schema)} is not checked; leave $schema out for JSON Schema 2020-12`,
      findMember(root, "$schema", schema.$schema),
    );
  const hidden =
    schema.required === undefined && schema.allOf === undefined ? [] : [...readOnly, ...answered(root, schema)];
  /** @type {Record<string, any>} */
  const adapted = {};
  for (const [key, value] of Object.entries(schema)) {
    if (ANNOTATIONS.includes(key) || key.startsWith("x-")) continue;
    if ([...ONE, ...MORE].includes(key)) adapted[key] = adapt(root, value, version);
    else if (LISTS.includes(key) && Array.isArray(value))
      adapted[key] = value.map((one) => adapt(root, one, version, key === "allOf" ? hidden : []));
    else if (MAPS.includes(key) && isObject(value))
      adapted[key] = Object.fromEntries(Object.entries(value).map(([name, one]) => [name, adapt(root, one, version)]));
    else adapted[key] = value;
  }
  if (typeof adapted.$ref === "string" && !adapted.$ref.startsWith("#/components/schemas/"))
    throw new Unmapped(`${plain(adapted.$ref)}: a schema can refer to #/components/schemas/ only`);
  if (typeof adapted.$ref === "string") adapted.$ref = `openapi${adapted.$ref}`;
  if (isOld) {
    for (const [flag, bound] of [
      ["exclusiveMinimum", "minimum"],
      ["exclusiveMaximum", "maximum"],
    ]) {
      if (adapted[flag] === true) {
        adapted[flag] = adapted[bound];
        delete adapted[bound];
      } else if (adapted[flag] === false) delete adapted[flag];
    }
    if (adapted.nullable === true && typeof adapted.type === "string") adapted.type = [adapted.type, "null"];
  }
  // JSON Schema does not have it; ajv does.
  delete adapted.nullable;
  // A member that only answers have is not required of requests.
  if (Array.isArray(adapted.required)) adapted.required = adapted.required.filter((name) => !hidden.includes(name));
  return adapted;
}

/**
 * Checks a schema itself.
 * @param {any} ajv
 * @param {any} schema
 * @param {Path} place
 * @param {(place: Path, message: string) => never} fail
 */
function checkSchema(ajv, schema, place, fail) {
  if (ajv.validateSchema(schema)) return;
  const [{ instancePath, message }] = ajv.errors;
  fail([...place, ...pathOf(instancePath)], `the schema is invalid: ${plain(instancePath)} ${message}`);
}

/**
 * Returns the path of an adapted schema in the document.
 * @param {any} schema
 * @param {any} components
 * @param {{ schema: any, place: Path }[]} used
 */
function placeOf(schema, components, used) {
  for (const { schema: whole, place } of [{ schema: components, place: ["components"] }, ...used]) {
    const path = pathTo(whole, schema);
    if (path !== undefined) return [...place, ...path];
  }
  return [];
}

/**
 * Returns the path of a value within another.
 * @param {any} value
 * @param {any} wanted
 * @param {Path} [path]
 * @returns {Path | undefined}
 */
function pathTo(value, wanted, path = []) {
  if (value === wanted) return path;
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, member] of Object.entries(value)) {
    const found = pathTo(member, wanted, [...path, Array.isArray(value) ? Number(key) : key]);
    if (found !== undefined) return found;
  }
  return undefined;
}

/**
 * Returns the path of the first member with a name and a value.
 * @param {any} value
 * @param {string} name
 * @param {any} wanted
 * @param {Path} [path]
 * @returns {Path | undefined}
 */
function findMember(value, name, wanted, path = []) {
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, member] of Object.entries(value)) {
    const at = [...path, Array.isArray(value) ? Number(key) : key];
    const found = key === name && member === wanted ? at : findMember(member, name, wanted, at);
    if (found !== undefined) return found;
  }
  return undefined;
}
