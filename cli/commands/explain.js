// Lists why a token is accepted or refused, check by check, and what the policy decides about a request
// with it.

import { readFileSync } from "node:fs";

import { ORIGIN_OPTIONS, readArguments, seeHelp, usage, usageError } from "../lib/arguments.js";
import { ENVIRONMENT_OPTION, environmentOf } from "../lib/environments.js";
import { errorCode } from "../lib/errors.js";
import { parseJson } from "../lib/files.js";
import { fetchKeys } from "../lib/issuer-keys.js";
import { isLoopback } from "../lib/policy-document.js";
import { printOutput, readPolicyFile } from "../lib/policy-tool.js";
import { createProgress } from "../lib/progress.js";
import { readWranglerFile } from "../lib/project-policy.js";
import { policyFile } from "../lib/project.js";

/**
 * @import { Option } from "../lib/arguments.js"
 * @import { Context } from "../lib/project.js"
 */

export const summary = "lists why a token is accepted or refused";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["--token - GET /api/v1/users/7", "reads a token from standard input and checks it for this request"],
  ["--token TOKEN", "checks the token only; the shell keeps it in its history"],
  ["--help", "shows this"],
])}

  --keys FILE   key set (JWKS) of the token's issuer; without it, the issuer's keys are fetched
  --at TIME     time of the checks, in seconds since 1970 or as 2026-01-31T12:00:00Z (default: now)
  --file FILE   policy (default: GATEWAY_CONFIG, gateway.toml)
  --env NAME    environment of wrangler.toml whose variables replace URLs, as in the gateway
  --country DE, --address 192.0.2.7, --host shop.example.com
                the client's country and address, and the request's host, for rules that ask for them

  UPSTREAM_<NAME>_URL replaces an upstream's URL, as in the gateway.

The token's header and claims are shown, but not its signature. Revocations are not checked. The exit
code is 0 if the request is permitted (without a request: if the token is accepted), 1 if not, and 2
if the arguments are invalid.`;

/**
 * Parses a time to milliseconds since 1970.
 * @param {string} text
 * @param {string} flag
 */
function readTime(text, flag) {
  const time = /^\d{1,12}$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(time) || time < 0)
    throw usageError(`${flag} must be seconds since 1970 or a time such as 2026-01-31T12:00:00Z.`);
  return time;
}

/** @param {string} file */
function readKeys(file) {
  let text;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw usageError(`${file} cannot be read (${errorCode(error)}).`);
  }
  if (!Array.isArray(parseJson(text)?.keys))
    throw usageError(`${file} is not a key set: a JSON object with an array "keys".`);
  return text;
}

/** @type {Record<string, Option>} */
const OPTIONS = {
  token: { type: "string" },
  keys: { type: "string" },
  at: { type: "string", parse: readTime },
  file: { type: "string" },
  ...ENVIRONMENT_OPTION,
  ...ORIGIN_OPTIONS,
};

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env, openPolicyTool, projectFolder }) {
  const { values, positionals } = readArguments(args, { command, options: OPTIONS, most: 2 });
  if (values.help) return console.log(help(command));
  if (positionals.length === 1)
    throw usageError(`A request is a method and a path, such as GET /api/v1/users/7; ${seeHelp(command)}`);
  if (values.token === undefined)
    throw usageError(`--token is needed; --token - reads standard input; ${seeHelp(command)}`);
  const token = (values.token === "-" ? readFileSync(0, "utf8") : values.token).trim();
  if (token === "") throw usageError(`The token is empty; ${seeHelp(command)}`);
  const given = values.keys === undefined ? undefined : { keys: readKeys(values.keys) };
  const vars = values.env === undefined ? {} : environmentOf(await readWranglerFile(projectFolder()), values.env).vars;
  const policy = readPolicyFile(values.file ?? policyFile(env));
  const progress = createProgress({ out: process.stderr });
  const tool = await openPolicyTool({ progress });
  progress.close();
  const keys = given ?? (await fetchKeys(tool, { policy, token, env: { ...env, ...vars } }));
  const { country, address, host } = values;
  const request = positionals.length === 0 ? undefined : positionals;
  const output = tool({
    command: { explain: { token, now_ms: values.at ?? Date.now(), ...keys, request, country, address, host } },
    policy,
  });
  const code = printOutput(output);
  if ("keys_fault" in keys && output.errors.length === 0) console.error(`\n${unavailableLine(keys.keys_fault ?? "")}`);
  return code;
}

/**
 * Returns why an answer without keys says nothing about the token.
 * @param {string} fault
 */
function unavailableLine(fault) {
  const [url = ""] = /https?:\/\/\S+/.exec(fault) ?? [];
  const question = isLoopback(url) ? " Is the gateway running (npx portcullis dev; in a checkout: npm start)?" : "";
  return `The issuer's keys could not be fetched, so the token is not checked completely.${question}`;
}
