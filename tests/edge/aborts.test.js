// Large numbers of clients that disconnect while the gateway waits: their work is completed, others are not
// delayed, they are counted, and nothing of them stays in memory. Memory over 100,000 of them:
// long/aborts.test.js.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { makeAssertionKey } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { abort } from "../harness/lean.js";
import { fileScope, testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const wait = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

const text = (path, token) => `GET ${path} HTTP/1.1\r\nHost: edge\r\nAuthorization: Bearer ${token}\r\n\r\n`;

describe("clients that disconnect", () => {
  let auth, users, issuer;

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    issuer = await createIssuer();
  });

  // Answers for the key set after `millis`.
  function publish(millis) {
    auth.answer("GET /.well-known/jwks.json", async (_request, response) => {
      const keys = JSON.stringify(issuer.jwks());
      await wait(millis);
      response.writeHead(200, { "content-type": "application/json" });
      response.end(keys);
    });
  }

  async function ask(edge) {
    const claims = issuer.claims();
    return { path: `/api/v1/users/${claims.sub}`, token: await issuer.sign(claims), edge };
  }

  test("while their token's key is fetched do not stop others from getting the key", async (t) => {
    publish(1_000);
    const edge = await startEdge(testScope(t), { auth, users });
    const { path, token } = await ask(edge);
    auth.forget();
    // The first makes the gateway ask the issuer, and disconnects at once.
    await abort(edge.url, [text(path, token)], { count: 1 });
    assert.equal((await edge.get(path, { token })).status, 200);
    assert.equal(auth.requests.length, 1, "the first one's question was answered");
    // The same for a key that the cached set lacks.
    await issuer.rotate();
    await edge.restart();
    const other = await ask(edge);
    await abort(
      edge.url,
      Array.from({ length: 50 }, () => text(other.path, other.token)),
      { count: 200 },
    );
    assert.equal((await edge.get(other.path, { token: other.token })).status, 200);
  });

  const faulty = { skip: onlyOnPlatform("a simulated fault of the log") };
  test("while the revocation log is read do not stop others from getting the copy", faulty, async (t) => {
    publish(0);
    const edge = await startEdge(testScope(t), { auth, users, faultyLog: true });
    const { path, token } = await ask(edge);
    await edge.get(path, { token });
    await edge.restart();
    await edge.log("slow");
    const began = Date.now();
    await abort(edge.url, [text(path, token)], { count: 1 });
    const answer = await edge.get(path, { token });
    assert.equal(answer.status, 200, answer.body);
    assert.ok(Date.now() - began < 30_000, "it waited for what the first had begun");
  });

  // Refusals that fall together count as one, so each token waits for a key set of its own, and they come
  // one after another.
  test("with bad tokens are counted by their address, like those that wait for the answer", async (t) => {
    const limit = 20;
    const names = Array.from({ length: 2 * limit }, (_, index) => `issuer-${index}`);
    const policy = [
      ...names.map(
        (name) =>
          `[issuers.${name}]\nissuer = "${name}"\naudience = ["api"]\nalgorithms = ["RS256"]\n` +
          `jwks_upstream = "auth"\njwks_path = "/keys/${name}"\n`,
      ),
      `[limits.failed-tokens]\nby = "failed_ip"\n`,
      ...["auth", "users"].map((name) => `[upstreams.${name}]\nurl = "http://127.0.0.1:1"\n`),
      `[[routes]]\npath = "/mine"\nmethods = ["GET"]\nupstream = "users"\naccess = "user"\n`,
    ].join("\n");
    for (const name of names) {
      auth.answer(`GET /keys/${name}`, async (_request, response) => {
        await wait(200);
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify(issuer.jwks()));
      });
    }
    const limits = { LIMIT_FAILED_TOKENS: { limit, period: 60 } };
    const edge = await startEdge(testScope(t), { auth, users, limits, policy: { text: policy } });
    const stranger = await createIssuer();
    const bad = await Promise.all(names.map((iss) => stranger.accessToken({ iss })));
    // The runtime counts by the minute.
    const left = 60_000 - (Date.now() % 60_000);
    if (left < 40_000) await wait(left);
    const count = names.length;
    await abort(
      edge.url,
      bad.map((token) => text("/mine", token)),
      { count, atOnce: 1, afterMs: 100 },
    );
    let more = 0;
    await until("they are counted", async () => {
      await wait(200);
      more += 1;
      return (await edge.get("/mine", { token: bad[0] })).status === 429;
    });
    // Fewer than the limit has by itself.
    assert.ok(more < limit, `${more} more tokens were refused before the limit`);
    const token = await issuer.accessToken({ iss: names[0] });
    assert.equal((await edge.get("/mine", { token })).status, 200, "good tokens of the address are never looked at");
  });

  test("while a service is asked free their slots as soon as it answers", async (t) => {
    publish(0);
    const vars = { UPSTREAM_BIG_URL: users.url, ASSERTION_KEYS_BIG: makeAssertionKey() };
    const edge = await startEdge(testScope(t), { auth, users, policy: "upstreams", vars });
    const token = await issuer.accessToken();
    const waiting = async () => (await edge.get("/status")).json().upstreams.find(({ name }) => name === "big").waiting;
    users.answer("GET /big", async (_request, response) => {
      await wait(500);
      response.end("{}");
    });
    assert.equal((await edge.get("/big", { token })).status, 200);
    users.forget();
    await abort(edge.url, [text("/big", token)], { count: 60, atOnce: 15, afterMs: 250 });
    assert.ok(users.requests.length > 0, "they were forwarded");
    // Their own timeout is a minute.
    await until("no place is held", async () => (await waiting()) === 0, 30_000);
    assert.equal((await edge.get("/big", { token })).status, 200);
  });

  test("and leave many waiting requests behind do not stop the others", async (t) => {
    publish(2_000);
    const edge = await startEdge(testScope(t), { auth, users });
    const { path, token } = await ask(edge);
    const strangers = await Promise.all(
      Array.from({ length: 50 }, (_, index) => issuer.accessToken({}, { kid: `new-${index}` })),
    );
    const flood = abort(
      edge.url,
      strangers.map((bad) => text(path, bad)),
      { count: 500, atOnce: 100 },
    );
    assert.equal((await edge.get("/health")).status, 200);
    await flood;
    await until("a good token is taken", async () => (await edge.get(path, { token })).status === 200);
  });
});
