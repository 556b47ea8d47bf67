// The pushed policies in KV: the newest is policy/current, the one before it policy/previous. Isolates look
// by themselves.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { usageError } from "./arguments.js";
import { runCommand } from "./commands.js";
import { ENVIRONMENT_OPTION, storeOf } from "./environments.js";
import { readWranglerFile } from "./project-policy.js";

/**
 * @import { Option } from "./arguments.js"
 * @import { Context } from "./project.js"
 * @typedef {object} Store
 * @property {(key: string) => Promise<string | undefined>} get
 * @property {(key: string, text: string) => Promise<void>} put
 * @property {(key: string) => Promise<unknown>} remove
 */

/**
 * Options for which store a command works on: the local one without any.
 * @type {Record<string, Option>}
 */
export const STORE_OPTIONS = { remote: { type: "boolean" }, local: { type: "boolean" }, ...ENVIRONMENT_OPTION };

/**
 * Runs `work` with access to the pushed policies, locally or on Cloudflare.
 * @template T
 * @param {Pick<Context, "processes" | "findWrangler">} context
 * @param {{ remote?: boolean, local?: boolean, env?: string }} options of STORE_OPTIONS
 * @param {(store: Store) => Promise<T>} work
 */
export async function withPushedPolicies({ processes, findWrangler }, { remote, local, env }, work) {
  if (local && (remote || env !== undefined)) throw usageError("--local is the local gateway, without --env.");
  const wrangler = findWrangler();
  if (env !== undefined) storeOf(await readWranglerFile(wrangler.folder), env);
  const isRemote = remote || env !== undefined;
  const where = isRemote ? ["--remote", `--env=${env ?? ""}`] : ["--local", ...wrangler.local];
  /** @param {...string} rest */
  const kv = (...rest) =>
    runCommand(wrangler.node, [wrangler.script, "kv", "key", ...rest, "--binding", "KEYS", ...where], {
      cwd: wrangler.folder,
      processes,
      env: { ...wrangler.env, CI: "true" },
      failure: "KV cannot be reached",
    });
  const folder = mkdtempSync(join(tmpdir(), "portcullis-policy-"));
  try {
    return await work({
      async get(key) {
        const names = JSON.parse(await kv("list", "--prefix", `policy/${key}`)).map(
          (/** @type {{ name: string }} */ { name }) => name,
        );
        return names.includes(`policy/${key}`) ? (await kv("get", `policy/${key}`, "--text")).trim() : undefined;
      },
      async put(key, text) {
        const path = join(folder, key);
        writeFileSync(path, text, { mode: 0o600 });
        await kv("put", `policy/${key}`, "--path", path);
      },
      remove: (key) => kv("delete", `policy/${key}`),
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
