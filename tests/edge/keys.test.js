// Where the edge gets an issuer's keys: from the issuer once, then from memory, then from KV, which outlives
// the isolate. The cron trigger fills KV before the first request.

import assert from "node:assert/strict";
import { test } from "node:test";

import { startGateway } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { testScope } from "../harness/scope.js";

const JWKS = "/.well-known/jwks.json";

async function begin(t) {
  const scope = testScope(t);
  const { auth, users, issuer, edge } = await startGateway(scope);
  return {
    auth,
    users,
    issuer,
    edge,
    fetches: () => auth.requests.filter(({ path }) => path === JWKS).length,
  };
}

async function readProfile({ edge, issuer }) {
  const claims = issuer.claims();
  return edge.get(`/api/v1/users/${claims.sub}`, { token: await issuer.sign(claims) });
}

test("many tokens cause one fetch of the issuer's keys", async (t) => {
  const world = await begin(t);
  for (let count = 0; count < 5; count += 1) assert.equal((await readProfile(world)).status, 200);
  assert.equal(world.fetches(), 1);
});

test("a new isolate has the keys from KV while the issuer is away", async (t) => {
  const world = await begin(t);
  assert.equal((await readProfile(world)).status, 200);
  const { keys } = await (await world.edge.kv()).list();
  assert.equal(keys.length, 1);
  await world.auth.stop();
  await world.edge.restart();
  assert.equal((await readProfile(world)).status, 200);
});

test("without any keys a token is 503 with Retry-After, and does not count as invalid", async (t) => {
  const world = await begin(t);
  await world.auth.stop();
  const answer = await readProfile(world);
  assert.equal(answer.status, 503);
  assert.match(answer.headers["retry-after"], /^[1-9]\d*$/);
  assert.equal(world.users.requests.length, 0);
  assert.equal((await world.edge.lineOf(answer)).status, 503);
});

test("the cron trigger has put the keys into KV before the first request", async (t) => {
  const world = await begin(t);
  await world.edge.scheduled();
  assert.equal(world.fetches(), 1);
  await world.auth.stop();
  await world.edge.restart();
  assert.equal((await readProfile(world)).status, 200);
});

test("garbage in KV is ignored, and costs one fetch", async (t) => {
  const world = await begin(t);
  assert.equal((await readProfile(world)).status, 200);
  const kv = await world.edge.kv();
  const { keys } = await kv.list();
  for (const { name } of keys) await kv.put(name, "<html>not a key set</html>");
  await world.edge.restart();
  assert.equal((await readProfile(world)).status, 200);
  assert.equal(world.fetches(), 2);
});

test("a burst of unknown key ids is one fetch, and known keys stay good", async (t) => {
  const world = await begin(t);
  assert.equal((await readProfile(world)).status, 200);
  const stranger = await createIssuer();
  for (let count = 0; count < 20; count += 1) {
    const token = await stranger.accessToken({}, { kid: `unknown-${count}` });
    assert.equal((await world.edge.get("/api/v1/auth/me", { token })).status, 401);
  }
  assert.ok(world.fetches() <= 2, `${world.fetches()} fetches`);
  assert.equal((await readProfile(world)).status, 200);
});

test("an isolate whose KV holds the old set takes a rotated key as soon as a token names it", async (t) => {
  const world = await begin(t);
  assert.equal((await readProfile(world)).status, 200);
  await world.issuer.rotate();
  await world.edge.restart();
  assert.equal((await readProfile(world)).status, 200);
  assert.equal(world.fetches(), 2);
});
