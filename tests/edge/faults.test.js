// Faults of a service behind the gateway, and the answers that the client gets: the gateway's own where there
// is none to pass on. No isolate is lost.

import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";

import { startEdge, startGateway } from "../harness/edge.js";
import { fileScope, testScope } from "../harness/scope.js";
import { reply } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

describe("a service's faults", () => {
  let auth, users, edge, path, bearer;

  before(async () => {
    const gateway = await startGateway(scope);
    ({ auth, users, edge } = gateway);
    const { issuer } = gateway;
    const claims = issuer.claims();
    path = `/api/v1/users/${claims.sub}`;
    bearer = { authorization: `Bearer ${await issuer.sign(claims)}` };
  });

  const get = (query) => edge.send({ path: `${path}?${query}`, headers: bearer });

  // A good answer in between, because five failures in a row open the circuit.
  const getFine = async () => assert.equal((await get("fine")).status, 200);
  beforeEach(getFine);

  function assertOwn(answer, status, code) {
    assert.equal(answer.status, status, answer.body);
    assert.equal(answer.json().code, code);
    assert.match(answer.headers["content-type"], /^application\/problem\+json/);
    assert.match(answer.headers["retry-after"], /^[1-9]\d*$/);
    for (const text of ["127.0.0.1", "localhost", users.port])
      assert.ok(!answer.body.includes(String(text)), "no internal address is shown");
  }

  test("one that resets the connection is 502", async () => {
    users.answer(`GET ${path}?reset`, (incoming) => incoming.socket.destroy());
    assertOwn(await get("reset"), 502, "upstream_unreachable");
  });

  test("one that never answers is 504 after the policy's timeout", async () => {
    users.answer(`GET ${path}?silent`, () => {});
    const answer = await get("silent");
    assertOwn(answer, 504, "upstream_timeout");
    assert.ok((await edge.lineOf(answer)).upstream_ms >= 15_000, "gateway.toml gives it 15 s");
  });

  test("one that answers invalid HTTP or an invalid status is 502", async () => {
    users.answer(`GET ${path}?garbage`, (incoming) => incoming.socket.end("hello\r\n\r\n"));
    assert.equal((await get("garbage")).status, 502);
    await getFine();
    for (const status of [999, 600, 99]) {
      users.answer(`GET ${path}?status`, (incoming) =>
        incoming.socket.end(`HTTP/1.1 ${status} Odd\r\nContent-Length: 2\r\n\r\nhi`),
      );
      const answer = await get("status");
      assert.equal(answer.status, 502, `${status}: ${answer.body}`);
    }
  });

  test("one that breaks off within a body never yields a complete answer", async () => {
    users.answer(`GET ${path}?half`, (incoming, outgoing) => {
      outgoing.writeHead(200, { "content-length": "1000" });
      outgoing.write("half");
      setImmediate(() => incoming.socket.destroy());
    });
    await assert.rejects(get("half"), "the client sees that the body is cut");
    assert.equal((await get("after")).status, 200, "the isolate keeps running");
  });

  test("a redirect is passed on and not followed", async () => {
    users.answer(`GET ${path}?away`, (_incoming, outgoing) =>
      reply(outgoing, { status: 302, headers: { location: `${auth.url}/stolen` } }),
    );
    auth.forget();
    const answer = await get("away");
    assert.equal(answer.status, 302);
    assert.equal(answer.headers.location, `${auth.url}/stolen`);
    assert.equal(auth.requests.length, 0);
    users.answer(`GET ${path}?home`, (_incoming, outgoing) =>
      reply(outgoing, { status: 302, headers: { location: `${users.url}/home?x=1` } }),
    );
    const home = (await get("home")).headers.location;
    assert.equal(home, `${edge.url}/home?x=1`, "the service's own address is not shown");
  });

  test("a service's own errors are passed on unchanged", async () => {
    for (const status of [400, 401, 404, 409, 422, 429, 500, 503]) {
      users.answer(`GET ${path}?own`, { status, headers: { "retry-after": "7" }, json: { own: status } });
      const answer = await get("own");
      assert.equal(answer.status, status);
      assert.deepEqual(answer.json(), { own: status });
      assert.equal(answer.headers["retry-after"], "7");
    }
  });

  test("a service that refuses the assertion is 502, no outage, and shown in the status", async () => {
    const challenge = 'Bearer realm="x", GATEWAY-assertion realm="https://gateway.example", error="gateway_required"';
    users.answer(`GET ${path}?refused`, {
      status: 401,
      headers: { "www-authenticate": challenge },
      json: { code: "gateway_required" },
    });
    for (let count = 0; count < 10; count += 1) {
      const answer = await get("refused");
      assertOwn(answer, 502, "upstream_rejected_assertion");
      assert.equal(answer.headers["www-authenticate"], undefined, "the client keeps its session");
    }
    const status = (await edge.get("/status")).json();
    const seen = status.upstreams.find(({ name }) => name === "users");
    assert.deepEqual(
      [seen.status, seen.last_error, seen.breakers],
      ["degraded", "upstream_rejected_assertion", ["closed"]],
    );
    for (const own of [
      'Bearer realm="x"',
      'Bearer error_description="Gateway-Assertion x, Gateway-Assertion"',
      "Gateway-Assertions",
    ]) {
      users.answer(`GET ${path}?own-401`, { status: 401, headers: { "www-authenticate": own }, json: {} });
      const answer = await get("own-401");
      assert.deepEqual([answer.status, answer.headers["www-authenticate"]], [401, own]);
    }
  });

  test("headers between the gateway and a service do not reach the client", async () => {
    users.answer(`GET ${path}?private`, (_incoming, outgoing) => {
      outgoing.writeHead(200, [
        ...["X-User-Id", "internal"],
        ...["X-Internal-Host", "db-1"],
        ...["X-Gateway-Assertion", "secret"],
        ...["X_Service_Name", "users"],
        ...["X-Envoy-Upstream-Service-Time", "3"],
        ...["X-Request-Id", "forged"],
        ...["Set-Cookie", "a=1"],
        ...["Set-Cookie", "b=2"],
        ...["X-Total-Count", "7"],
        ...["Cache-Control", "private"],
      ]);
      outgoing.end("{}");
    });
    const answer = await get("private");
    assert.equal(answer.status, 200);
    for (const name of [
      "x-user-id",
      "x-internal-host",
      "x-gateway-assertion",
      "x_service_name",
      "x-envoy-upstream-service-time",
    ])
      assert.equal(answer.headers[name], undefined, name);
    assert.notEqual(answer.headers["x-request-id"], "forged");
    assert.deepEqual(answer.headers["set-cookie"], ["a=1", "b=2"]);
    assert.equal(answer.headers["x-total-count"], "7");
    assert.equal(answer.headers["cache-control"], "private");
  });

  test("a service that is down is 502, the auth service 503; both with Retry-After", async () => {
    await users.stop();
    assertOwn(await get("down"), 502, "upstream_unreachable");
    await users.start();
    assert.equal((await get("up")).status, 200);
    await auth.stop();
    const login = await edge.post("/api/v1/auth/login", { email: "a@example.com", password: "x" });
    assertOwn(login, 503, "authentication_unavailable");
    assert.equal((await get("still")).status, 200, "tokens are still accepted");
    await auth.start();
    const again = await edge.post("/api/v1/auth/login", { email: "a@example.com", password: "x" });
    assert.equal(again.status, 200);
  });

  test("/status shows what was seen, and no address", async () => {
    users.answer(`GET ${path}?reset`, (incoming) => incoming.socket.destroy());
    await get("reset");
    const answer = await edge.get("/status");
    const status = answer.json();
    assert.equal(status.status, "degraded");
    const seen = status.upstreams.find(({ name }) => name === "users");
    assert.equal(seen.last_error, "upstream_unreachable");
    assert.ok(status.issuers[0].keys === 1 && status.issuers[0].keys_age_s >= 0);
    assert.ok(!answer.body.includes("127.0.0.1"));
    await get("fine");
    assert.equal((await edge.get("/status")).json().status, "healthy");
  });

  test("an issuer that answers nonsense never replaces a good key set", async () => {
    const world = await startEdge(scope, { auth, users });
    const ask = () => world.send({ path, headers: bearer });
    assert.equal((await ask()).status, 200);
    for (const nonsense of [
      { body: "<html></html>" },
      { json: { keys: [] } },
      { status: 500, body: "" },
      { status: 302, headers: { location: "/elsewhere" } },
      { body: "x".repeat(70_000) },
    ]) {
      auth.answer("GET /.well-known/jwks.json", nonsense);
      await world.refreshedFrom(auth);
      assert.equal((await ask()).status, 200, JSON.stringify(nonsense).slice(0, 60));
      const [status] = (await world.get("/status")).json().issuers;
      assert.match(status.last_error, /^jwks_/);
    }
    await world.restart();
    assert.equal((await ask()).status, 200, "nor in KV");
  });
});

describe("a missing binding", () => {
  for (const [binding, status, code] of [
    ["KEYS", 200, undefined],
    ["METRICS", 200, undefined],
    ["REVOCATIONS", 503, "revocation_unavailable"],
  ]) {
    test(`${binding}: a token is answered with ${status}, and the log names the binding`, async (t) => {
      const vars = { UNBOUND: binding, LIVE_POLICY: undefined, METRICS_TOKEN: "a-token-for-this-test-alone" };
      const { edge, issuer } = await startGateway(testScope(t), { vars });
      for (let count = 0; count < 2; count += 1) {
        const answer = await edge.get("/api/v1/auth/me", { token: await issuer.accessToken() });
        assert.equal(answer.status, status, answer.body);
        if (code) assert.equal(answer.json().code, code);
      }
      await until("the log names it", () => edge.output.includes(`${binding} is not bound; see wrangler.toml`));
    });
  }
});
