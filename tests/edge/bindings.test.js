// Upstreams without a public address: another Worker behind a service binding, in one runtime with the gateway.

import assert from "node:assert/strict";
import { once } from "node:events";
import { before, describe, test } from "node:test";

import { WebSocket } from "ws";

import { makeAssertionKey, readAssertion } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Echoes requests, or does what the path says.
const SERVICE = `
let failures = 0;
export default {
  async fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/fail") throw new Error("as the test says");
    if (pathname === "/busy") return new Response(null, { status: 503 });
    if (pathname === "/once" && failures++ === 0) return new Response(null, { status: 502 });
    if (pathname === "/slow") await new Promise((resolve) => setTimeout(resolve, 3_000));
    if (pathname === "/gate") return new Response(null, { status: 401, headers: { "www-authenticate": "Gateway-Assertion" } });
    if (pathname === "/away") return Response.redirect(new URL(searchParams.get("to"), request.url), 302);
    if (pathname === "/socket") {
      const [client, server] = Object.values(new WebSocketPair());
      server.accept();
      server.addEventListener("message", ({ data }) => server.send("echo " + data));
      return new Response(null, { status: 101, webSocket: client });
    }
    const body = await request.text();
    const headers = Object.fromEntries(request.headers);
    return Response.json({ url: request.url, method: request.method, headers, bytes: body.length, end: body.slice(-3) });
  },
};
`;

const policy = `
[issuers.id]
issuer = "auth-service"
audience = ["api"]
algorithms = ["RS256"]
jwks_upstream = "auth"
jwks_path = "/.well-known/jwks.json"

[upstreams.auth]
url = "http://127.0.0.1:1"

[upstreams.shop]
binding = "SHOP"
timeout_ms = 500
retries = 1
breaker = { failures = 5 }

[upstreams.frail]
binding = "SHOP"
timeout_ms = 500
breaker = { failures = 2 }

[upstreams.private]
binding = "PRIVATE_API"
url = "http://orders.corp.internal:8080"

[upstreams.gone]
binding = "GONE"

[upstreams.text]
binding = "NOT_A_SERVICE"

[[routes]]
path = "/shop/{*rest}"
methods = ["GET", "POST"]
upstream = "shop"
access = "user"
strip_prefix = "/shop"
variants = { allow = "a breaker of its own has the same service" }
websocket = true
max_body_bytes = 4000000

[[routes]]
path = "/frail/{*rest}"
methods = ["GET"]
upstream = "frail"
access = "public"
strip_prefix = "/frail"

[[routes]]
path = "/private"
methods = ["GET"]
upstream = "private"
access = "public"

[[routes]]
path = "/gone"
methods = ["GET", "POST"]
upstream = "gone"
access = "public"

[[routes]]
path = "/text"
methods = ["GET"]
upstream = "text"
access = "public"
`;

describe("an upstream behind a service binding", { skip: onlyOnPlatform("no other Workers to bind") }, () => {
  let edge, token, auth;
  const keys = Object.fromEntries(
    ["SHOP", "FRAIL", "PRIVATE", "GONE", "TEXT"].map((name) => [name, makeAssertionKey()]),
  );

  before(async () => {
    auth = await startUpstream(scope);
    const issuer = (await createIssuer()).publishOn(auth);
    edge = await startEdge(scope, {
      auth,
      policy: { text: policy },
      services: { SHOP: SERVICE, PRIVATE_API: SERVICE },
      vars: {
        NOT_A_SERVICE: "text",
        ...Object.fromEntries(Object.entries(keys).map(([name, key]) => [`ASSERTION_KEYS_${name}`, key])),
      },
    });
    token = await issuer.accessToken({ sub: "ada" });
  });

  test("gets the request with a verified assertion and clean headers", async () => {
    const headers = { "x-user-id": "root", "x-gateway-assertion": "forged", cookie: "a=b" };
    const answer = await edge.get("/shop/orders?page=2", { token, headers });
    assert.equal(answer.status, 200, answer.body);
    const seen = answer.json();
    assert.equal(seen.url, "https://shop.internal/orders?page=2");
    assert.deepEqual([seen.headers["x-user-id"], seen.headers.cookie], ["ada", "a=b"]);
    assert.ok(!("authorization" in seen.headers));
    const { claims } = await readAssertion(seen.headers["x-gateway-assertion"], keys.SHOP, "shop");
    assert.deepEqual([claims.sub, claims.htm, claims.htu], ["ada", "GET", "/orders?page=2"]);
  });

  test("gets short, long and chunked bodies completely", async () => {
    for (const [bytes, headers] of [
      [3, {}],
      [60_000, {}],
      [200_000, {}],
      [3_000_000, {}],
      [200_000, { "transfer-encoding": "chunked" }],
    ]) {
      const body = `${"b".repeat(bytes - 3)}end`;
      const authorization = `Bearer ${token}`;
      const answer = await edge.send({
        method: "POST",
        path: "/shop/orders",
        headers: { authorization, ...headers },
        body,
      });
      assert.equal(answer.status, 200, answer.body);
      const seen = answer.json();
      assert.deepEqual([seen.method, seen.bytes, seen.end], ["POST", bytes, "end"]);
    }
    const headers = { authorization: `Bearer ${token}` };
    const tooLong = await edge.send({ method: "POST", path: "/shop/orders", headers, body: "b".repeat(4_000_001) });
    assert.equal(tooLong.json().code, "body_too_large");
  });

  test("gets the host of its url, also over plain HTTP, which only the platform's network carries", async () => {
    const seen = (await edge.get("/private")).json();
    assert.equal(seen.url, "http://orders.corp.internal:8080/private");
    await edge.restart({ vars: { UPSTREAM_PRIVATE_URL: "https://other.corp.internal" } });
    assert.equal((await edge.get("/private")).json().url, "https://other.corp.internal/private");
  });

  test("is followed to no other place, and clients never learn its host", async () => {
    const away = (to) => edge.get(`/shop/away?to=${encodeURIComponent(to)}`, { token });
    const inside = await away("https://shop.internal/orders/7");
    assert.equal(inside.status, 302);
    assert.equal(inside.headers.location, `${edge.url}/shop/orders/7`);
    const outside = await away("https://evil.example/");
    assert.deepEqual([outside.status, outside.headers.location], [302, "https://evil.example/"]);
  });

  test("takes WebSockets", async () => {
    const socket = new WebSocket(`${edge.url.replace("http", "ws")}/shop/socket`, {
      headers: { authorization: `Bearer ${token}` },
    });
    await once(socket, "open");
    socket.send("hello");
    const [data] = await once(socket, "message");
    assert.equal(String(data), "echo hello");
    socket.close();
  });

  test("has the same retries, time-outs and breaker as others", async () => {
    assert.equal((await edge.get("/shop/once", { token })).status, 200, "the second try");
    const slow = await edge.get("/shop/slow", { token });
    assert.deepEqual([slow.status, slow.json().code], [504, "upstream_timeout"]);
    assert.equal((await edge.get("/shop/gate", { token })).json().code, "upstream_rejected_assertion");
    const failing = await edge.get("/frail/fail");
    assert.deepEqual([failing.status, failing.json().code], [502, "upstream_unreachable"]);
    assert.ok(!failing.body.includes("as the test says"));
    await edge.get("/frail/busy");
    assert.equal((await edge.get("/frail/orders")).json().code, "upstream_resting");
    await until("a probe closes the circuit", async () => (await edge.get("/frail/orders")).status === 200);
  });

  test("is 503 without the binding, or with one that takes no requests", async () => {
    for (const [path, binding] of [
      ["/gone", "GONE"],
      ["/text", "NOT_A_SERVICE"],
    ]) {
      // More than its breaker would let pass.
      for (let count = 0; count < 7; count += 1) {
        const answer = await edge.get(path);
        assert.deepEqual([answer.status, answer.json().code], [503, "gateway_misconfigured"]);
        assert.equal(answer.headers["retry-after"], "5");
        assert.ok(!answer.body.includes(binding));
      }
    }
    const upload = await edge.send({ method: "POST", path: "/gone", body: "b".repeat(100_000) });
    assert.equal(upload.json().code, "gateway_misconfigured");
    const line = await edge.lineOf(await edge.get("/gone"));
    assert.match(line.detail, /^binding GONE of upstream gone is missing/);
    const ready = await edge.get("/ready");
    assert.equal(ready.status, 503);
    assert.match(ready.body, /binding GONE of upstream gone/);
    assert.match(ready.body, /binding NOT_A_SERVICE of upstream text/);
    const status = (await edge.get("/status")).json();
    const missing = status.upstreams.filter((upstream) => upstream.binding_missing).map(({ name }) => name);
    assert.deepEqual(missing, ["gone", "text"]);
    assert.equal(status.upstreams.find(({ name }) => name === "shop").binding, "SHOP");
  });
});
