// What a version of the Worker leaves for its neighbours: key sets in KV, the tables of the Durable Objects, and the
// pages that they answer with.
//
//   await observe(scope, { build })         runs a build and returns the forms of all that it writes
//   await assertReads(scope, { writer, reader })   the reader uses what the writer has left
//   await assertShare(scope, { build, twin })      two builds use the Durable Objects of the first one at once
//
// `build`, `writer` and `reader` are folders of builds; undefined is this version's.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";

import { startEdge } from "./edge.js";
import { createIssuer } from "./issuer.js";
import { remember, temporaryFolder } from "./run.js";
import { startUpstream } from "./upstream.js";
import { until } from "./wait.js";

const TOKEN = remember("a-token-for-operators-of-formats");
const ME = "/api/v1/auth/me";
const LOGOUT = "/api/v1/auth/logout";
const PUSH = "/_gateway/revocations";

// Ids in the revocation log, where they are digests.
export const REVOKED_SESSION = "5e551014-0000-4000-8000-000000000001";

/**
 * Returns the form of a value: its members and their types. A list of equal forms is as one of them.
 * @param {unknown} value
 * @returns {unknown}
 */
export function formOf(value) {
  if (Array.isArray(value)) {
    const forms = value.map(formOf);
    const isUniform = new Set(forms.map((form) => JSON.stringify(form))).size === 1;
    return isUniform ? [forms[0]] : forms;
  }
  if (value === null || typeof value !== "object") return value === null ? "null" : typeof value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, formOf(value[name])]),
  );
}

const VARS = { METRICS_TOKEN: TOKEN, POLICY_REREAD_S: "1" };

async function start(scope, { build, folder }) {
  const auth = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const edge = await startEdge(scope, { auth, users: auth, build, kvFolder: folder, vars: VARS });
  return { edge, issuer, auth };
}

// Makes a running gateway write everything.
async function write({ edge, issuer }) {
  const token = await issuer.accessToken({ sid: REVOKED_SESSION });
  assert.equal((await edge.get(ME, { token })).status, 200);
  const claims = { sub: "auth-service", aud: "portcullis", token_type: "service", roles: ["service"], sid: undefined };
  const service = await issuer.sign(issuer.claims(claims), { typ: "service+jwt" });
  const expires_at = Math.floor(Date.now() / 1000) + 3600;
  const revocations = [{ session: REVOKED_SESSION, expires_at }];
  assert.equal((await edge.post(PUSH, { revocations }, { token: service })).status, 200);
  const { body } = await edge.get("/metrics", { token: TOKEN });
  assert.match(body, /^gateway_requests_total\{/m);
  return token;
}

// The tables of the one object of a class that has rows.
async function tablesOf(folder, type) {
  // Not in the types of Node 20.
  const builtin = "node:sqlite";
  const { DatabaseSync } = await import(builtin);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.includes(type) && name.endsWith(".sqlite") && !name.includes("metadata"),
  );
  const tables = {};
  for (const file of files) {
    const database = new DatabaseSync(join(folder, file), { readOnly: true });
    const schema = database.prepare("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE '\\_cf\\_%' ESCAPE '\\'");
    for (const { name, sql } of schema.all()) {
      if (sql === null || String(name).startsWith("sqlite_")) continue;
      const rows = /^CREATE TABLE/.test(String(sql)) ? database.prepare(`SELECT * FROM ${name} LIMIT 1`).all() : [];
      tables[String(name)] = { sql: String(sql).replace(/\s+/g, " "), row: formOf(rows)[0] };
    }
    database.close();
  }
  return tables;
}

/**
 * @param {import("./scope.js").Scope} scope
 * @param {{ build?: string }} [options]
 */
export async function observe(scope, { build } = {}) {
  const folder = temporaryFolder(scope, "formats");
  const gateway = await start(scope, { build, folder });
  const { edge } = gateway;
  await write(gateway);
  const store = await edge.kv();
  const [{ name }] = (await store.list({ prefix: "keys/" })).keys;
  const set = JSON.parse(await store.get(name));
  const { json: whole } = await edge.logObject("/whole");
  const mark = whole.entries[0][0] ?? whole.entries[0].key;
  const { json: entries } = await edge.logObject(`/marks/${mark}`);
  const { json: newest } = await edge.logObject("/newest");
  const append = await edge.logObject("/append", { body: JSON.stringify(whole) });
  const proof = await edge.logObject("/proof", { body: `digest ${Date.now() + 60_000}` });
  await edge.stop();
  return {
    "key set in KV": {
      name: name.replace(/[^/]+$/, ""),
      text: { .../** @type {object} */ (formOf(set)), jwks: formOf(JSON.parse(set.jwks)) },
    },
    "revoked session": mark,
    "pages of the log": { newest: formOf(newest), whole: formOf(whole), entries: formOf(entries) },
    "answers of the log": { append: append.status, proof: proof.status },
    "revocation log": await tablesOf(folder, "Revocations"),
    "sums of metrics": await tablesOf(folder, "Metrics"),
  };
}

/**
 * @param {import("./scope.js").Scope} scope
 * @param {{ writer?: string, reader?: string, policy: string }} options `policy` is a pushed one that has the route
 *   /pushed
 */
export async function assertReads(scope, { writer, reader, policy }) {
  const folder = temporaryFolder(scope, "formats");
  const before = await start(scope, { build: writer, folder });
  const revoked = await write(before);
  const token = await before.issuer.accessToken();
  await (await before.edge.kv()).put("policy/current", policy);
  await before.edge.stop();

  // Its keys are in KV only.
  const { auth } = before;
  auth.answer("GET /.well-known/jwks.json", { status: 503 });
  const edge = await startEdge(scope, { auth, users: auth, build: reader, kvFolder: folder, vars: VARS });
  assert.equal((await edge.get("/pushed")).status, 200, "the pushed policy is in use");
  assert.equal((await edge.get(ME, { token })).status, 200, "the keys are read from KV");
  const refused = await edge.get(ME, { token: revoked });
  assert.deepEqual([refused.status, refused.json().code], [401, "token_revoked"]);
  const { body } = await edge.get("/metrics", { token: TOKEN });
  const counted = /^gateway_requests_total\{route="\/api\/v1\/auth\/me",method="GET",status="200"\} (\d+)$/m.exec(body);
  assert.equal(counted?.[1], "2", "the sums go on");
  await edge.stop();
}

/**
 * @param {import("./scope.js").Scope} scope
 * @param {{ build: string, twin: string }} options
 */
export async function assertShare(scope, { build, twin }) {
  const auth = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const edge = await startEdge(scope, { auth, users: auth, build, twin: { build: twin }, vars: VARS });
  const [ofTwin, ofGateway] = [await issuer.accessToken(), await issuer.accessToken()];
  for (const token of [ofTwin, ofGateway]) {
    assert.equal((await edge.get(ME, { token })).status, 200);
    assert.equal((await edge.twin({ path: ME, token })).status, 200);
  }
  assert.equal((await edge.twin({ method: "POST", path: LOGOUT, token: ofTwin })).status, 200);
  assert.equal((await edge.post(LOGOUT, {}, { token: ofGateway })).status, 200);
  // Each learns of the other's revocation from the log.
  await until("the gateway refuses", async () => (await edge.get(ME, { token: ofTwin })).status === 401);
  await until("the twin refuses", async () => (await edge.twin({ path: ME, token: ofGateway })).status === 401);
  await edge.stop();
}
