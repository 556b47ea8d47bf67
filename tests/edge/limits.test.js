// Rate limits with the runtime's counters and the shipped policy.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { limit } from "../../src/host/bindings.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const LOGIN = "/api/v1/auth/login";
const REFRESH = "/api/v1/auth/refresh";
const ME = "/api/v1/auth/me";
const TOKEN = remember("a-token-for-the-scraper-of-limits");

// Refused tokens of an address in a minute.
const FAILED_TOKENS = 20;

// Requests per 10 or 60 seconds, by binding.
function limitsOf(text) {
  return Object.fromEntries(
    [...text.matchAll(/name = "(LIMIT_\w+)"\n.*\nsimple = \{ limit = (\d+), period = 60 \}/g)].map(
      ([, name, limit]) => [name, Number(limit)],
    ),
  );
}

describe("rate limits at the running gateway", () => {
  let auth, issuer, edge;

  before(async () => {
    auth = await startUpstream(scope);
    issuer = (await createIssuer()).publishOn(auth);
    edge = await startEdge(scope, {
      auth,
      users: auth,
      vars: { METRICS_TOKEN: TOKEN },
      limits: {
        LIMIT_LOGIN: { limit: 10, period: 60 },
        LIMIT_REFRESH: { limit: 30, period: 60 },
        LIMIT_FAILED_TOKENS: { limit: FAILED_TOKENS, period: 60 },
      },
    });
  });

  test("too many logins of one address are 429 and reach no service; other routes are served", async () => {
    const said = [];
    for (let count = 0; count < 25; count += 1) said.push(await edge.post(LOGIN, {}));
    const passed = said.filter(({ status }) => status === 200).length;
    assert.ok(passed >= 10 && passed < 25, `${passed} passed`);
    assert.equal(auth.requests.filter(({ path }) => path === LOGIN).length, passed);
    const limited = said.at(-1);
    assert.equal(limited.status, 429);
    assert.equal(limited.json().type, "rate_limited");
    assert.equal(limited.headers["retry-after"], "60");
    assert.equal((await edge.get(ME, { token: await issuer.accessToken() })).status, 200);
    const { body } = await edge.get("/metrics", { token: TOKEN });
    assert.match(body, /^gateway_rate_limited_total\{limit="login"\} [1-9]/m);
  });

  test("a refresh has its own, larger limit, which logins do not use up", async () => {
    for (let count = 0; count < 25; count += 1) await edge.post(LOGIN, {});
    assert.equal((await edge.post(LOGIN, {})).status, 429);
    const said = [];
    for (let count = 0; count < 60; count += 1) said.push((await edge.post(REFRESH, {})).status);
    const passed = said.filter((status) => status === 200).length;
    assert.ok(passed >= 30 && passed < 60, `${passed} passed`);
    assert.equal(said.at(-1), 429);
    const { LIMIT_REFRESH, LIMIT_LOGIN } = limitsOf(readFileSync(join(ROOT, "wrangler.toml"), "utf8"));
    assert.ok(LIMIT_REFRESH > LIMIT_LOGIN, `${LIMIT_REFRESH} > ${LIMIT_LOGIN}`);
  });

  // Sends guesses until one is refused as one too many. The gateway counts them in the background, one at a time, so a fast
  // client sends many more than the limit.
  async function guess(request) {
    const statuses = [];
    await until("a guess is beyond the limit", async () => {
      const headers = { ...request.headers, authorization: `Bearer guess.${statuses.length}.x` };
      statuses.push((await edge.send({ ...request, headers })).status);
      return statuses.includes(429);
    });
    assert.deepEqual([...new Set(statuses)], [401, 429]);
    assert.ok(statuses.length > FAILED_TOKENS, `${statuses.length} guesses`);
  }

  test("too many refused tokens of one address are 429; a good token from there is served", async () => {
    await guess({ path: ME });
    assert.equal((await edge.get(ME, { token: await issuer.accessToken() })).status, 200);
  });

  for (const [what, method, path] of [
    ["pushes of revocations", "POST", "/_gateway/revocations"],
    ["questions for the metrics", "GET", "/metrics"],
    ["questions for the status", "GET", "/status"],
  ]) {
    test(`refused tokens of ${what} are counted like any other`, async () => {
      const headers = { "cf-connecting-ip": `198.51.100.${path.length}` };
      await guess({ method, path, headers, body: method === "POST" ? "{}" : undefined });
    });
  }
});

test("a counter of the runtime that never answers fails in time", { timeout: 10_000 }, async () => {
  await assert.rejects(limit({ limit: () => new Promise(() => {}) }, "key", 20), { name: "TimeoutError" });
  assert.equal(await limit({ limit: async () => ({ success: false }) }, "key", 10_000), false);
});
