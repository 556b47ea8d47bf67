// `npm run check`: checks a policy and prints its route table, or decides about one request.

import { ORIGIN_OPTIONS, readArguments, usageError } from "./lib/arguments.js";
import { parseJson } from "./lib/files.js";
import { policyFile } from "./lib/paths.js";
import { openPolicyTool, printOutput, readPolicyFile, runWithDocuments } from "./lib/policy-tool.js";
import { createProgress } from "./lib/progress.js";
import { runScript } from "./lib/script.js";

/** @import { Option } from "./lib/arguments.js" */

const HELP = `npm run check                                     checks gateway.toml and the decisions that
                                                  gateway.tests.toml expects, prints the effective table
                                                  and which route wins where paths overlap
npm run check -- GET /api/v1/users/7              prints who may call the route
npm run check -- GET /api/v1/users/7 --roles user [--user 7] [--scopes a,b]
                 [--claim org/tenant=shop] [--issuer NAME]     decides for this caller,
                 [--country DE] [--address 192.0.2.7] [--host shop.example.com]     here and now
npm run check -- --file other.toml …              another policy (default: GATEWAY_CONFIG, gateway.toml)
npm run check -- --help                           shows this

The exit code is 1 if the policy has errors, a decision is not as expected, or the request is denied.`;

const COMMAND = "npm run check";

/**
 * @param {string} text
 * @param {string} flag
 */
const names = (text, flag) => {
  const list = text.split(",").filter(Boolean);
  if (list.length === 0) throw usageError(`${flag} needs a name.`);
  return list;
};

/**
 * Parses name=value, where the name may be a path with slashes and the value may be JSON.
 * @param {string} text
 * @param {string} flag
 * @returns {[string[], unknown]}
 */
const claim = (text, flag) => {
  const at = text.indexOf("=");
  if (at < 1) throw usageError(`${flag} needs a claim as name=value.`);
  const value = text.slice(at + 1);
  const parsed = parseJson(value);
  return [text.slice(0, at).split("/"), parsed === undefined ? value : parsed];
};

/** @type {Record<string, Option>} */
const OPTIONS = {
  file: { type: "string" },
  user: { type: "string" },
  roles: { type: "string", parse: names },
  scopes: { type: "string", parse: names },
  claim: { type: "string", parse: claim, multiple: true },
  issuer: { type: "string" },
  ...ORIGIN_OPTIONS,
};

await runScript(async (args, processes) => {
  const { values, positionals } = readArguments(args, { command: COMMAND, options: OPTIONS, most: 2 });
  if (values.help) return console.log(HELP);
  const { file = policyFile(process.env), claim: claims, country, address, host, help: _, ...caller } = values;
  const origin = { country, address, host, now_ms: Date.now() };
  if (claims !== undefined) caller.claims = claims;
  const [method, path] = positionals;
  const isTable = positionals.length === 0 && Object.keys(values).every((name) => name === "file");
  if (!isTable && path === undefined)
    throw usageError(`A method and a path are needed, such as GET /api/v1/users/7; see: ${COMMAND} -- --help`);
  const policy = readPolicyFile(file);
  const progress = createProgress({ out: process.stderr });
  const run = await openPolicyTool({ progress, processes });
  progress.close();
  return printOutput(
    await runWithDocuments(run, { command: isTable ? "table" : { decide: { method, path, caller, origin } }, policy }),
  );
});
