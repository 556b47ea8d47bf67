// Local secrets: generated once from the system's random numbers, readable by their owner only, never
// printed. Those of the edge are in `.dev.vars` (where wrangler looks by itself) for the default data
// directory and in `edge.vars` of any other; those of the services are in `origin.env`. The assertion
// keys are the same in both.

import { randomBytes } from "node:crypto";
import { chmodSync, linkSync, mkdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { readIfThere } from "../../cli/lib/files.js";
import { DEFAULT_DATA, ROOT } from "./paths.js";
import { EXIT_USAGE, ScriptError, errorCode } from "../../cli/lib/errors.js";

/**
 * @typedef {Record<string, string>} Vars
 * @typedef {{ env: Vars, files: ReturnType<typeof secretFiles> }} Secrets
 */

const OWNER_ONLY = 0o600;

const EDGE_NAMES = ["ASSERTION_KEYS_AUTH", "ASSERTION_KEYS_USERS"];
const ORIGIN_NAMES = ["MASTER_KEY", "SERVICE_SECRET_AUTH_SERVICE", "SERVICE_SECRET_USER_SERVICE", ...EDGE_NAMES];

/** @param {string} data */
export function secretFiles(data) {
  return {
    edge: data === DEFAULT_DATA ? join(ROOT, ".dev.vars") : join(data, "edge.vars"),
    origin: join(data, "origin.env"),
  };
}

/**
 * Generates the missing secrets and keeps the others: with a new master key the signing keys in an
 * existing database could not be decrypted. Returns the environment of the services.
 * @param {string} data
 * @returns {Secrets}
 */
export function ensureSecrets(data) {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const files = secretFiles(data);
  const origin = parseVars(readIfThere(files.origin) ?? "");
  const edge = parseVars(readIfThere(files.edge) ?? "");
  const random = () => randomBytes(32).toString("base64url");
  for (const name of ORIGIN_NAMES) {
    if (!EDGE_NAMES.includes(name)) origin[name] ??= random();
  }
  for (const name of EDGE_NAMES) {
    // A key that only one side has is copied to the other.
    origin[name] ??= edge[name] ?? `k1:${random()}`;
    edge[name] ??= origin[name];
    if (!sharesKey(origin[name], edge[name])) {
      throw new ScriptError(
        `${name} differs between ${files.edge} and ${files.origin}; give both the same value, or delete that line in one of them.`,
        { code: EXIT_USAGE },
      );
    }
  }
  // Not a secret: allows plain HTTP to services on this machine.
  edge.DEVELOPMENT ??= "true";
  writeSecrets(files.origin, origin, "Secrets of the auth and the user service on this machine. Do not share them.");
  writeSecrets(files.edge, edge, "Secrets of the edge on this machine, read by wrangler dev. Do not share them.");
  return { env: origin, files };
}

/**
 * Returns whether the service accepts the edge's assertions. The edge signs with the first of its keys;
 * during a rotation either side may list a second.
 * @param {string} origin
 * @param {string} edge
 */
function sharesKey(origin, edge) {
  return origin.split(",").includes(edge.split(",")[0]);
}

/** @param {string} text */
export function parseVars(text) {
  /** @type {Vars} */
  const vars = {};
  for (const line of text.split("\n")) {
    const found = /^\s*([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^#]*))/.exec(line);
    if (found !== null) vars[found[1]] = found[2] ?? found[3] ?? found[4].trim();
  }
  return vars;
}

/**
 * @param {string} file
 * @param {Vars} vars
 * @param {string} title
 */
function writeSecrets(file, vars, title) {
  const present = readIfThere(file);
  const known = parseVars(present ?? "");
  const missing = Object.entries(vars).filter(([name]) => !(name in known));
  if (present !== undefined) chmodSync(file, OWNER_ONLY);
  if (missing.length === 0) return;
  const added = missing.map(([name, value]) => `${name}="${value}"\n`).join("");
  const head =
    present === undefined ? `# ${title}\n` : present.endsWith("\n") || present === "" ? present : `${present}\n`;
  if (present === undefined) {
    // Written to another file and linked, so that of two concurrent starts one wins completely.
    const aside = `${file}.${process.pid}`;
    writeFileSync(aside, head + added, { mode: OWNER_ONLY, flag: "wx" });
    try {
      linkSync(aside, file);
    } catch (error) {
      if (errorCode(error) === "EEXIST") {
        throw new ScriptError(`Another process has just created ${file}; start again.`);
      }
      throw error;
    } finally {
      unlinkSync(aside);
    }
  } else {
    writeFileSync(file, head + added, { mode: OWNER_ONLY });
  }
}
