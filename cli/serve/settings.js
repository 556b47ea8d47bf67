// The settings of `portcullis serve`: arguments, the project's wrangler.toml, secrets.

import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { dirname, join, resolve } from "node:path";

import { parse } from "smol-toml";

import { usageError, wholeNumber } from "../lib/arguments.js";
import { errorCode, ScriptError } from "../lib/errors.js";
import { RESERVED_NAMES } from "./config.js";
import { parseNetwork } from "./workers/client-address.js";

/**
 * @typedef {object} Settings
 * @property {string | undefined} policy
 * @property {string | undefined} worker
 * @property {{ file: string, isOptional: boolean }} project wrangler.toml
 * @property {string} state
 * @property {{ host: string, port: number }} listen
 * @property {number} processes
 * @property {string[]} trustedProxies
 * @property {{ cert: string, key: string } | undefined} tls
 * @property {string | undefined} ca
 * @property {string | undefined} secrets
 * @property {boolean} development
 * @property {number} drainMs
 *
 * @typedef {object} Project what wrangler.toml says, read again for each generation
 * @property {string} compatibilityDate
 * @property {Record<string, string>} vars
 * @property {Record<string, { limit: number, period: number }>} limits
 */

// More processes than any machine has cores.
const MAX_PROCESSES = 256;

// Seconds that requests in progress have to end.
const DRAIN_S = 30;
const MAX_DRAIN_S = 600;

// Without a wrangler.toml: the runtime's behaviour with which this version was tested.
const COMPATIBILITY_DATE = "2026-10-23";

const NAME = /^[A-Z][A-Z0-9_]*$/;

// Never taken from the environment, where another program may have set it: it opens details and allows plain HTTP.
const DEVELOPMENT = "DEVELOPMENT";

/** @type {Record<string, import("../lib/arguments.js").Option>} */
export const OPTIONS = {
  policy: { type: "string" },
  worker: { type: "string" },
  config: { type: "string" },
  state: { type: "string" },
  listen: { type: "string", parse: readAddress },
  processes: { type: "string", parse: wholeNumber(MAX_PROCESSES) },
  "trusted-proxy": { type: "string", multiple: true, parse: readNetwork },
  "tls-cert": { type: "string" },
  "tls-key": { type: "string" },
  ca: { type: "string" },
  secrets: { type: "string" },
  drain: { type: "string", parse: wholeNumber(MAX_DRAIN_S) },
  development: { type: "boolean" },
};

/**
 * @param {string} text
 * @param {string} flag
 */
function readAddress(text, flag) {
  const found = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text);
  const host = found?.[1] ?? found?.[2] ?? "";
  if (found === null || isIP(host) === 0 || Number(found[3]) > 65_535)
    throw usageError(`${flag} needs an IP address and a port, such as 127.0.0.1:8787 or [::]:443.`);
  return { host, port: Number(found[3]) };
}

/**
 * @param {string} text
 * @param {string} flag
 */
function readNetwork(text, flag) {
  if (parseNetwork(text) === undefined)
    throw usageError(`${flag} needs an IP address or a network, such as 10.0.0.0/8.`);
  return text;
}

/**
 * @param {Record<string, any>} values
 * @param {{ policy: string }} defaults
 * @returns {Settings}
 */
export function readSettings(values, defaults) {
  const policy = values.policy ?? (values.worker === undefined ? defaults.policy : undefined);
  const file = (/** @type {string} */ flag) => values[flag] && readable(values[flag], `--${flag}`);
  const [cert, key] = [file("tls-cert"), file("tls-key")];
  if ((cert === undefined) !== (key === undefined)) throw usageError("--tls-cert and --tls-key go together.");
  if (key !== undefined) assertPrivate(key);
  const project = resolve(values.config ?? join(dirname(policy ?? "gateway.toml"), "wrangler.toml"));
  return {
    policy: policy && readable(policy, "--policy"),
    worker: values.worker && resolve(values.worker),
    // One that was there at the start is needed by a reload, too.
    project: { file: project, isOptional: values.config === undefined && !existsSync(project) },
    state: resolve(values.state ?? "portcullis-state"),
    listen: values.listen ?? { host: "127.0.0.1", port: 8787 },
    processes: values.processes ?? 1,
    trustedProxies: values["trusted-proxy"] ?? [],
    tls: cert && { cert, key },
    ca: file("ca"),
    secrets: values.secrets && resolve(values.secrets),
    development: values.development === true,
    drainMs: (values.drain ?? DRAIN_S) * 1000,
  };
}

/**
 * @param {string} path
 * @param {string} flag
 */
function readable(path, flag) {
  if (!existsSync(path)) throw usageError(`${flag}: there is no ${path}.`);
  return resolve(path);
}

/**
 * Reads variables and rate limits from wrangler.toml.
 * @param {Settings["project"]} project
 * @returns {Project}
 */
export function readProject({ file, isOptional }) {
  if (isOptional && !existsSync(file)) return { compatibilityDate: COMPATIBILITY_DATE, vars: {}, limits: {} };
  /** @type {any} */
  let toml;
  try {
    toml = parse(readFileSync(file, "utf8"));
  } catch (error) {
    throw new ScriptError(`${file} cannot be read (${errorCode(error) ?? "it is no TOML"}).`);
  }
  const vars = Object.entries(toml.vars ?? {}).map(([name, value]) => [name, String(value)]);
  const limits = (toml.ratelimits ?? []).map((/** @type {any} */ one) => {
    const { limit, period } = one.simple ?? {};
    if (!NAME.test(one.name ?? "") || RESERVED_NAMES.includes(one.name) || !(limit >= 1) || !(period >= 1))
      throw new ScriptError(`${file}: each of ratelimits needs a name in capitals, and simple = { limit, period }.`);
    return [one.name, { limit, period }];
  });
  return {
    compatibilityDate: String(toml.compatibility_date ?? COMPATIBILITY_DATE),
    vars: Object.fromEntries(vars),
    limits: Object.fromEntries(limits),
  };
}

/**
 * Returns the environment of the processes, and the names in it that become variables of the Worker. A file in the folder
 * of secrets takes precedence over the environment, and that over wrangler.toml.
 * @param {Pick<Settings, "secrets" | "development">} settings
 * @param {Project} project
 * @param {NodeJS.ProcessEnv} env
 */
export function readVariables({ secrets, development }, { vars, limits }, env) {
  const merged = { ...vars, ...env, ...(secrets && readSecrets(secrets)), [DEVELOPMENT]: String(development) };
  const reserved = [...RESERVED_NAMES, ...Object.keys(limits)];
  const names = Object.keys(merged).filter((name) => NAME.test(name) && !reserved.includes(name));
  return { env: merged, names };
}

/** @param {string} folder */
function readSecrets(folder) {
  let names;
  try {
    names = readdirSync(folder).filter((name) => NAME.test(name));
  } catch (error) {
    throw new ScriptError(`--secrets: ${folder} cannot be read (${errorCode(error)}).`);
  }
  const read = names.map((name) => {
    const file = join(folder, name);
    assertPrivate(file);
    return [name, readFileSync(file, "utf8").trim()];
  });
  return Object.fromEntries(read);
}

/**
 * Throws unless a file with a secret is private to its owner, or belongs to root and is at most readable by a group.
 * @param {string} file
 */
function assertPrivate(file) {
  const { mode, uid } = statSync(file);
  if ((mode & 0o077) !== 0 && !(uid === 0 && (mode & 0o027) === 0))
    throw new ScriptError(`${file} can be read or changed by other users; run: chmod 600 ${file}`);
}
