// Prints or writes the routes of an OpenAPI document.

import { readFileSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

import { readArguments, seeHelp, usage, usageError } from "../lib/arguments.js";
import { ScriptError } from "../lib/errors.js";
import { plain, readOpenApi } from "../lib/openapi.js";
import { readOperations } from "../lib/openapi-operations.js";
import { readPolicyFile, runWithDocuments } from "../lib/policy-tool.js";
import { createProgress } from "../lib/progress.js";
import { policyFile } from "../lib/project.js";
import { draftRoutes, renderBlock, splitAtBlock } from "../lib/route-block.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { Context } from "../lib/project.js"
 * @import { WrittenRoute } from "../lib/route-block.js"
 */

export const summary = "prints or writes the routes of an OpenAPI document";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["openapi.yaml --upstream shop", "prints the routes of an OpenAPI document (3.0 or 3.1, YAML or JSON)"],
  ["… --write", "writes them into the policy, if it is valid with them"],
  ["--help", "shows this"],
])}

  --upstream NAME         upstream of the routes
  --default-access RULE   rule of operations for which the document states none: user (any verified token) or public
  --issuers A,B           issuers of the routes that need a token
  --strip-prefix /shop    prefix of the clients' paths, which the service does not see
  --prefix /v1            prefix of the service's paths, instead of the path of the document's servers
  --exclude /health,/x    leaves out these paths of the document, and those below them
  --skip                  leaves out operations that cannot be routes, with a comment
  --file FILE             policy (default: GATEWAY_CONFIG, gateway.toml)

--write replaces the lines between the markers of the upstream, or appends them. It changes no other line, and
refuses if the lines were changed by hand. Operations that a route outside of the markers takes are left out.
The exit code is 1 if an operation cannot be a route or the policy is invalid with the routes.`;

// Lines that are shown about one subject.
const SHOWN = 20;

/**
 * @param {string} text
 * @param {string} flag
 */
const fixedPath = (text, flag) => {
  if (!/^(?:\/[A-Za-z0-9\-._~]+)+$/.test(text) || text.split("/").some((segment) => /^\.+$/.test(segment)))
    throw usageError(`${flag} must be one or more fixed segments, such as /shop.`);
  return text;
};

/**
 * @param {string} text
 * @param {string} flag
 */
const rule = (text, flag) => {
  if (text !== "user" && text !== "public") throw usageError(`${flag} must be user or public.`);
  return text;
};

/**
 * @param {string} text
 * @param {string} flag
 */
const names = (text, flag) => {
  const list = text.split(",").filter(Boolean);
  if (list.length === 0 || list.some((name) => !/^[a-z0-9-]+$/.test(name)))
    throw usageError(`${flag} needs names of a-z, 0-9 and -, with commas between them.`);
  return list;
};

/**
 * @param {string} text
 * @param {string} flag
 */
const paths = (text, flag) => {
  const list = text.split(",").filter(Boolean);
  if (list.length === 0 || list.some((path) => !path.startsWith("/")))
    throw usageError(`${flag} needs paths, such as /health, with commas between them.`);
  return list.map((path) => path.replace(/\/$/, ""));
};

/** @type {Record<string, Option>} */
const OPTIONS = {
  upstream: { type: "string", parse: names },
  "default-access": { type: "string", parse: rule },
  issuers: { type: "string", parse: names },
  "strip-prefix": { type: "string", parse: fixedPath },
  prefix: { type: "string", parse: (text, flag) => (text === "/" ? "" : fixedPath(text, flag)) },
  exclude: { type: "string", parse: paths },
  skip: { type: "boolean" },
  write: { type: "boolean" },
  file: { type: "string" },
};

/**
 * Prints lines to standard error, up to a bound.
 * @param {string[]} lines
 */
function say(lines) {
  for (const line of lines.slice(0, SHOWN)) console.error(line);
  if (lines.length > SHOWN) console.error(`… and ${lines.length - SHOWN} more`);
}

/**
 * Returns the routes of a policy, without those between the markers.
 * @param {string} text
 * @returns {Promise<WrittenRoute[]>}
 */
async function routesOf(text) {
  const { parse } = await import("smol-toml");
  try {
    const { routes } = /** @type {any} */ (parse(text));
    return routes.filter(
      (/** @type {any} */ route) =>
        typeof route.path === "string" && typeof route.upstream === "string" && Array.isArray(route.methods),
    );
  } catch {
    // The check says what is wrong.
    return [];
  }
}

/**
 * @param {number} number
 * @param {string} what
 */
const count = (number, what) => `${number} ${what}${number === 1 ? "" : "s"}`;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env, openPolicyTool }) {
  const { values, positionals } = readArguments(args, { command, options: OPTIONS, most: 1 });
  if (values.help) return console.log(help(command));
  const [document] = positionals;
  if (document === undefined) throw usageError(`The file of an OpenAPI document is needed; ${seeHelp(command)}`);
  if (values.upstream?.length !== 1) throw usageError(`--upstream needs the name of one upstream; ${seeHelp(command)}`);
  const [upstream] = values.upstream;
  const { issuers, skip = false, write = false, file = policyFile(env) } = values;
  const { "default-access": defaultAccess, "strip-prefix": stripPrefix, prefix, exclude } = values;

  const { operations, faults } = readOperations(await readOpenApi(document), { prefix, exclude });
  const unsupported = operations.filter((operation) => operation.unsupported !== undefined);
  const left = [
    ...faults,
    ...unsupported.map(({ method, path, line, column, unsupported: scheme }) => ({
      ...{ line, column },
      message: `${method} ${path} wants ${scheme}, which the gateway does not check; write its route by hand`,
    })),
  ].sort((one, other) => one.line - other.line);
  const lines = [...new Set(left.map(({ line, column, message }) => `${document}:${line}:${column}: ${message}`))];
  say(lines);
  if (lines.length > 0 && !skip)
    throw new ScriptError(`${document} has operations that cannot be routes; --skip leaves them out.`);
  const usable = operations.filter((operation) => operation.unsupported === undefined);
  if (usable.length === 0) throw new ScriptError(`${document} has no operation that can be a route.`);
  const open = usable.filter(({ access }) => access === undefined);
  if (open.length > 0 && defaultAccess === undefined) {
    say(
      open.map(({ method, path, line, column }) => `${document}:${line}:${column}: ${method} ${path} has no security`),
    );
    throw new ScriptError(
      "Who may call these operations is not in the document; write --default-access user (any verified token) or " +
        "--default-access public.",
    );
  }

  const policy = readPolicyFile(file);
  const { before, after } = splitAtBlock(policy.text, upstream, file);
  const options = { command, upstream, defaultAccess, issuers, stripPrefix };
  const { drafts, taken } = draftRoutes(usable, options, await routesOf(`${before}\n${after}`));
  const block = renderBlock(basename(document), drafts, options, { taken, left: skip ? left : [] });

  const progress = createProgress({ out: process.stderr });
  const tool = await openPolicyTool({ progress });
  progress.close();
  const text = `${before}${block}${after}`;
  const { out, errors } = await runWithDocuments(tool, { command: "table", policy: { ...policy, text } });
  if (!write) console.log(block.trimEnd());
  const places = createPlaces({ file, policy: policy.text, before, block, after });
  say(errors.map(places));
  if (errors.length > 0) {
    const printed = write ? "nothing was written" : '"routes" means the lines printed here';
    throw new ScriptError(
      `${file} would be invalid with these routes; the lines above name the mistakes (${printed}).`,
    );
  }
  const notes = out.split("\n").filter((line) => line.startsWith("note: "));
  say(notes.map((note) => note.replace(/^note: (.*)$/, (_, rest) => `note: ${places(rest)}`)));
  const written = `${count(drafts.length, "route")} for ${count(usable.length - taken.length, "operation")}`;
  if (!write) return console.error(`${file} is valid with ${written}. --write writes them.`);
  if (text === policy.text) return console.error(`${file} has these routes already: ${written}.`);
  replaceFile(file, policy.text, text);
  return console.error(`${written} written to ${file}.`);
}

/**
 * Returns a function that gives a message the line of the policy file as it is, or of the printed routes.
 * @param {{ file: string, policy: string, before: string, block: string, after: string }} options
 * @returns {(message: string) => string}
 */
function createPlaces({ file, policy, before, block, after }) {
  /** @param {string} text */
  const linesOf = (text) => text.split("\n").length - 1;
  const first = linesOf(before) + 1;
  const last = first + linesOf(block) - 1;
  // Of the lines that the block replaces.
  const shift = linesOf(policy) - linesOf(before) - linesOf(after) - linesOf(block);
  return (message) => {
    if (!message.startsWith(`${file}:`)) return message;
    const [, number, rest] = /^(\d+)(:.*)$/s.exec(message.slice(file.length + 1)) ?? [];
    const line = Number(number);
    if (number === undefined || line < first) return message;
    return line <= last ? `routes:${line - first + 1}${rest}` : `${file}:${line + shift}${rest}`;
  };
}

/**
 * Replaces a file's content in one step, unless it has changed since it was read.
 * @param {string} file
 * @param {string} read
 * @param {string} text
 */
function replaceFile(file, read, text) {
  const real = realpathSync(file);
  const fresh = `${real}.${process.pid}`;
  try {
    writeFileSync(fresh, text, { mode: statSync(real).mode, flag: "wx" });
    if (readFileSync(real, "utf8") !== read)
      throw new ScriptError(`${plain(file)} has changed meanwhile; run it again.`);
    renameSync(fresh, real);
  } finally {
    rmSync(fresh, { force: true });
  }
}
