// Local secrets: generated once from the system's random numbers, readable by their owner only, never
// printed. Those of the edge are in `.dev.vars` (where wrangler looks by itself) for the default data
// directory and in `edge.vars` of any other; those of the services are in `origin.env`. The assertion
// keys are the same in both.

import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { readIfThere } from "../../cli/lib/files.js";
import { parseVars, writeVars } from "../../cli/lib/vars.js";
import { DEFAULT_DATA, ROOT } from "./paths.js";
import { EXIT_USAGE, ScriptError } from "../../cli/lib/errors.js";

/**
 * @import { Vars } from "../../cli/lib/vars.js"
 * @typedef {{ env: Vars, files: ReturnType<typeof secretFiles> }} Secrets
 */

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
  writeVars(files.origin, origin, "Secrets of the auth and the user service on this machine. Do not share them.");
  writeVars(files.edge, edge, "Secrets of the edge on this machine, read by wrangler dev. Do not share them.");
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
