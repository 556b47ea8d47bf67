// The main module of the owner process: the only process that opens the objects' files. Edge processes reach its
// entrypoints through Unix sockets, one for each.

import gateway from "./entry.js";
import { WorkerEntrypoint } from "cloudflare:workers";

import { createCounter } from "./counter.js";

export { Metrics, Revocations } from "./entry.js";

// As often as the cron trigger of wrangler.toml.
const CRON_MS = 5 * 60_000;

const CRON = "*/5 * * * *";

// Milliseconds between two removals of expired values.
const SWEEP_MS = 60 * 60_000;

// Bytes of a value; the runtime's SQLite stores no larger one.
const MAX_VALUE_BYTES = 2_000_000;

// Keys of a list, as on the platform.
const MAX_LISTED = 1_000;

// Bytes of a key, as on the platform.
const MAX_KEY_BYTES = 512;

const empty = (/** @type {number} */ status) => new Response(null, { status });

/** KV, in the protocol of the runtime's binding: the path is the key. */
export class Store {
  /** @param {DurableObjectState} state */
  constructor({ storage }) {
    this.storage = storage;
    storage.sql.exec("CREATE TABLE IF NOT EXISTS entries (key TEXT PRIMARY KEY, value BLOB, expires_at INTEGER)");
  }

  /** @param {Request} request */
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const key = decodeURIComponent(pathname.slice(1));
    const { sql } = this.storage;
    if (key === "" && request.method === "GET") return this.list(searchParams.get("prefix") ?? "");
    if (key === "" || new TextEncoder().encode(key).byteLength > MAX_KEY_BYTES) return empty(400);
    switch (request.method) {
      case "GET": {
        const found = "SELECT value FROM entries WHERE key = ? AND (expires_at IS NULL OR expires_at > ?)";
        const [row] = sql.exec(found, key, Date.now());
        return row === undefined ? empty(404) : new Response(/** @type {ArrayBuffer} */ (row.value));
      }
      case "PUT": {
        const value = await request.arrayBuffer();
        if (value.byteLength > MAX_VALUE_BYTES) return empty(413);
        const ttl = searchParams.get("expiration_ttl");
        const expiresAt = ttl === null ? null : Date.now() + 1000 * Number(ttl);
        sql.exec("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)", key, value, expiresAt);
        if ((await this.storage.getAlarm()) === null) await this.storage.setAlarm(Date.now() + SWEEP_MS);
        return empty(200);
      }
      case "DELETE":
        sql.exec("DELETE FROM entries WHERE key = ?", key);
        return empty(200);
      default:
        return empty(405);
    }
  }

  /** @param {string} prefix */
  list(prefix) {
    const found =
      "SELECT key AS name FROM entries WHERE substr(key, 1, ?) = ? AND (expires_at IS NULL OR expires_at > ?) LIMIT ?";
    const keys = this.storage.sql.exec(found, prefix.length, prefix, Date.now(), MAX_LISTED).toArray();
    return Response.json({ keys, list_complete: keys.length < MAX_LISTED });
  }

  async alarm() {
    this.storage.sql.exec("DELETE FROM entries WHERE expires_at <= ?", Date.now());
    await this.storage.setAlarm(Date.now() + SWEEP_MS);
  }
}

/** The cron trigger. */
export class Cron {
  /**
   * @param {DurableObjectState} state
   * @param {unknown} env
   */
  constructor(state, env) {
    this.state = state;
    this.env = env;
  }

  // A start begins with fresh keys.
  async fetch() {
    await this.state.storage.setAlarm(Date.now());
    return empty(204);
  }

  async alarm() {
    await this.state.storage.setAlarm(Date.now() + CRON_MS);
    await gateway.scheduled({ cron: CRON, scheduledTime: Date.now() }, this.env, undefined);
  }
}

export class Kv extends WorkerEntrypoint {
  /** @param {Request} request */
  fetch(request) {
    const { STORE } = /** @type {any} */ (this.env);
    return STORE.get(STORE.idFromName("store")).fetch(request);
  }
}

/** The objects of the gateway: /NAMESPACE/name/path. */
export class Objects extends WorkerEntrypoint {
  /** @param {Request} request */
  fetch(request) {
    const { pathname, search } = new URL(request.url);
    const [, namespace, name, ...path] = pathname.split("/");
    if (namespace !== "REVOCATIONS" && namespace !== "METRICS") return empty(404);
    const objects = /** @type {any} */ (this.env)[namespace];
    const id = objects.idFromName(decodeURIComponent(name));
    return objects.get(id).fetch(new Request(`https://object/${path.join("/")}${search}`, request));
  }
}

const counter = createCounter();

/** Rate limits: /NAME?limit=&period=, with the key as the body. */
export class Limits extends WorkerEntrypoint {
  /** @param {Request} request */
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const limit = Number(searchParams.get("limit"));
    const periodMs = 1000 * Number(searchParams.get("period"));
    const key = `${pathname}\n${await request.text()}`;
    return empty(counter.isWithin(key, { limit, periodMs }, Date.now()) ? 200 : 429);
  }
}

/** For the supervisor, which asks once the objects' files are open. */
export default class Control extends WorkerEntrypoint {
  fetch() {
    const { CRON: objects } = /** @type {any} */ (this.env);
    return objects.get(objects.idFromName("cron")).fetch("https://object/");
  }
}
