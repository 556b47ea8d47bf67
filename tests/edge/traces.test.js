// Spans at the running gateway: what a collector receives, read with OpenTelemetry's definitions. A collector
// that is down affects no request.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { noPython, python } from "../harness/python.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const ME = "/api/v1/auth/me";
const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const KEY = remember("a key for the collector of tests");

const scope = fileScope();

describe("spans at the running gateway", () => {
  let auth, collector, edge, token;

  before(async () => {
    auth = await startUpstream(scope);
    collector = (await startUpstream(scope)).answer({ json: {} });
    const issuer = (await createIssuer()).publishOn(auth);
    edge = await startEdge(scope, {
      auth,
      users: auth,
      vars: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
        OTEL_EXPORTER_OTLP_HEADERS: `x-key=${encodeURIComponent(KEY)},x-team=edge`,
      },
    });
    token = await issuer.accessToken();
  });

  test("a collector receives a request's spans, and the service's parent is the call to it", {
    skip: noPython,
  }, async () => {
    const headers = { traceparent: `00-${TRACE}-00f067aa0ba902b7-01` };
    assert.equal((await edge.get(ME, { token, headers })).status, 200);
    const asked = auth.requests.at(-1).headers.traceparent;
    // The supervisor of a served edge asks for /health, which has spans, too.
    const message = await until("the spans have come", () =>
      collector.requests.find(({ body }) => body.includes(TRACE)),
    );
    assert.equal(`${message.method} ${message.path}`, "POST /v1/traces");
    assert.equal(message.headers["content-type"], "application/json");
    assert.equal(message.headers["x-key"], KEY);
    assert.equal(message.headers["x-team"], "edge");
    assert.ok(!message.body.includes(token));
    const spans = python("otlp", JSON.parse(message.body));
    const [server, client] = spans.filter(({ trace }) => trace === TRACE);
    assert.deepEqual(
      [server.name, server.kind, server.trace, server.parent, server.failed],
      [`GET ${ME}`, 2, TRACE, "00f067aa0ba902b7", false],
    );
    assert.deepEqual([client.name, client.kind, client.trace, client.parent], ["GET auth", 3, TRACE, server.span]);
    assert.ok(server.ms >= client.ms && client.ms >= 0, `${server.ms} ms, ${client.ms} ms`);
    assert.equal(asked, `00-${TRACE}-${client.span}-01`);
  });

  test("an unreachable collector is logged, and delays no request", async () => {
    await collector.stop();
    const answer = await edge.get(ME, { token });
    assert.equal(answer.status, 200);
    await until("the log has the line", () =>
      edge.lines.some((line) => /collector did not accept the spans/.test(line.message ?? "")),
    );
    assert.ok(!edge.output.includes(KEY));
    assert.ok(!edge.output.includes(encodeURIComponent(KEY)));
  });
});
