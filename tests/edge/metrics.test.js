// Metrics of two isolates, summed by the object in workerd, and their page.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startGateway } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const ME = "/api/v1/auth/me";
const TOKEN = remember("a-token-for-the-scraper-of-tests");

const scope = fileScope();

describe("metrics at the running gateway", () => {
  let issuer, edge;

  before(async () => {
    ({ issuer, edge } = await startGateway(scope, { twin: true, vars: { METRICS_TOKEN: TOKEN } }));
  });

  async function read() {
    const answer = await edge.get("/metrics", { token: TOKEN });
    assert.equal(answer.status, 200, answer.body);
    assert.match(answer.headers["content-type"], /^text\/plain; version=0\.0\.4/);
    const series = new Map();
    for (const line of answer.body.split("\n")) {
      const found = /^([^#].*) (\S+)$/.exec(line);
      if (found !== null) series.set(found[1], Number(found[2]));
    }
    return { body: answer.body, of: (name) => series.get(name) ?? 0 };
  }

  test("each request is counted once, whichever isolate served it", async () => {
    const token = await issuer.accessToken();
    const ok = `gateway_requests_total{route="${ME}",method="GET",status="200"}`;
    const before = (await read()).of(ok);
    for (let count = 0; count < 20; count += 1) {
      assert.equal((await edge.get(ME, { token })).status, 200);
      assert.equal((await edge.twin({ path: ME, token })).status, 200);
    }
    assert.equal((await edge.get(ME)).status, 401);
    // The other isolate reports its counts some seconds later.
    await until("both isolates' counts are there", async () => (await read()).of(ok) - before >= 40);
    const page = await read();
    assert.equal(page.of(ok) - before, 40);
    assert.equal(page.of(`gateway_denials_total{code="credentials_missing"}`), 1);
    assert.equal(page.of(`gateway_request_duration_seconds_bucket{route="${ME}",le="+Inf"}`), 41);
    assert.ok(page.of(`gateway_key_refresh_total{issuer="auth-service",result="ok"}`) >= 1);
    assert.ok(page.of(`gateway_token_cache_total{result="hit"}`) >= 38);
    assert.match(page.body, /^# TYPE gateway_request_duration_seconds histogram$/m);
    assert.match(page.body, /^gateway_revocation_age_seconds \d/m);
  });

  test("a restart loses no count that has arrived", async () => {
    const name = `gateway_requests_total{route="${ME}",method="GET",status="200"}`;
    const before = (await read()).of(name);
    assert.ok(before >= 40);
    await edge.restart();
    assert.equal((await read()).of(name), before);
  });

  test("without the token it is 401, and 404 if none is configured", async () => {
    assert.equal((await edge.get("/metrics")).status, 401);
    const wrong = await edge.get("/metrics", { token: "another-token-altogether" });
    assert.deepEqual([wrong.status, wrong.json().code], [401, "metrics_token_wrong"]);
    await edge.restart({ vars: { METRICS_TOKEN: undefined } });
    assert.equal((await edge.get("/metrics", { token: TOKEN })).status, 404);
  });
});
