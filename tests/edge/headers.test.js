// Identity headers of a client never reach a service, on any route, in any spelling; those of the gateway do.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { readAssertion } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge, startGateway } from "../harness/edge.js";
import { sendBytes } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { remember } from "../harness/run.js";
import { fileScope, testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const SPOOFED = [
  ["X-User-Id", "00000000-0000-4000-8000-000000000000"],
  ["X-User-Roles", "admin"],
  ["x-user-EMAIL", "root@example.com"],
  ["X_User_Id", "11111111-1111-4111-8111-111111111111"],
  ["X-Gateway-Assertion", "forged"],
  ["X-Internal-Call", "true"],
  ["X-Service-Caller", "auth-service"],
  ["X-Forwarded-For", "6.6.6.6"],
  ["X-Forwarded-Prefix", "/admin"],
  ["X-Original-URL", "/admin"],
  ["X-Envoy-Original-Path", "/admin"],
  ["Forwarded", "for=6.6.6.6"],
  ["X-Real-IP", "6.6.6.6"],
  ["Connection", "X-User-Id, X-Gateway-Assertion"],
  ["X-Acting-User", "spoofed-1"],
  ["Remote-User", "spoofed-2"],
  ["Remote-Groups", "spoofed-3"],
  ["X-Remote-User", "spoofed-4"],
  ["X-Auth-Request-Email", "spoofed-5"],
  ["X-Authenticated-User", "spoofed-6"],
  ["Cf-Access-Authenticated-User-Email", "spoofed-7"],
  ["Cf-Access-Jwt-Assertion", "spoofed-8"],
  ["SSL-Client-S-DN", "spoofed-9"],
  ["Client-Cert", "spoofed-19"],
  ["SSL_CLIENT_VERIFY", "spoofed-10"],
  ["X-Host", "spoofed-11.example"],
  ["X-User", "spoofed-12"],
  ["X-Forwarded", "spoofed-13"],
  ["X-Webauth-User", "spoofed-14"],
  ["X-Goog-Authenticated-User-Email", "spoofed-15"],
  ["X-Amzn-Oidc-Identity", "spoofed-16"],
  ["X-MS-Client-Principal-Name", "spoofed-17"],
  ["Tailscale-User-Login", "spoofed-18"],
  // The platform writes this name with dashes; other spellings come from the client.
  ["CF_Connecting_IP", "6.6.6.7"],
];

// Each byte that a header's name may have beyond letters, digits and the dash (RFC 9110,
// section 5.6.2). Servers that follow CGI read each of them as they read a dash.
const IN_PLACE_OF_DASH = [..."!#$%&'*+.^_`|~"];

// Returns a name as a server that follows CGI reads it.
const asRead = (name) => name.toLowerCase().replaceAll(/[^a-z0-9]/g, "-");

const scope = fileScope();

describe("headers on the way to a service", () => {
  let auth, users, issuer, edge;

  before(async () => {
    ({ auth, users, issuer, edge } = await startGateway(scope));
  });

  function assertNothingSpoofed(seen) {
    for (const [name, value] of SPOOFED) {
      for (const [found, text] of Object.entries(seen.headers)) {
        assert.ok(
          !(asRead(found) === asRead(name) && text.includes(value)),
          `${name}: ${value} reached the service as ${found}`,
        );
      }
    }
  }

  test("a client's identity headers never reach a protected route's service", async () => {
    const claims = issuer.claims();
    const token = await issuer.sign(claims);
    const path = `/api/v1/users/${claims.sub}`;
    const answer = await edge.get(path, { token, headers: SPOOFED });
    assert.equal(answer.status, 200);
    const seen = users.requests.at(-1);
    assertNothingSpoofed(seen);
    assert.equal(seen.headers["x-user-id"], claims.sub);
    assert.equal(seen.headers["x-user-roles"], "user");
    assert.equal(seen.headers.authorization, undefined);
    const { claims: asserted } = await readAssertion(seen.assertion, edge.assertionKeys.users, "users");
    assert.equal(asserted.sub, claims.sub);
    assert.deepEqual(asserted.roles, ["user"]);
    assert.equal(asserted.htm, "GET");
    assert.equal(asserted.htu, path);
    assert.equal(asserted.request_id, answer.headers["x-request-id"]);
  });

  test("an assertion has its own id, even if a client repeats the id of its request", async () => {
    const claims = issuer.claims();
    const token = await issuer.sign(claims);
    const id = "01890b5a-28c4-7d3a-9f10-1c2b3a4d5e6f";
    const seen = new Set();
    for (let count = 0; count < 3; count += 1) {
      const answer = await edge.get(`/api/v1/users/${claims.sub}`, { token, headers: { "x-request-id": id } });
      assert.equal(answer.headers["x-request-id"], id);
      const { claims: asserted } = await readAssertion(
        users.requests.at(-1).assertion,
        edge.assertionKeys.users,
        "users",
      );
      assert.equal(asserted.request_id, id);
      assert.match(asserted.jti, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      seen.add(asserted.jti);
    }
    assert.equal(seen.size, 3);
    assert.ok(!seen.has(id));
  });

  test("a client's identity headers never reach a public route's service", async () => {
    const answer = await edge.post("/api/v1/auth/login", { email: "a@example.com" }, { headers: SPOOFED });
    assert.equal(answer.status, 200);
    const seen = auth.requests.at(-1);
    assertNothingSpoofed(seen);
    assert.equal(seen.headers["x-user-id"], undefined);
    const { claims } = await readAssertion(seen.assertion, edge.assertionKeys.auth, "auth");
    assert.equal(claims.sub, undefined);
  });

  test("no character in place of the dash gets an identity header to a service", async () => {
    const names = ["X-User-Id", "X-User-Roles", "X-Acting-User", "Remote-User", "Cf-Access-Jwt-Assertion", "X-Host"];
    const claims = issuer.claims();
    const token = await issuer.sign(claims);
    const path = `/api/v1/users/${claims.sub}`;
    for (const name of names) {
      const headers = IN_PLACE_OF_DASH.map((byte) => [name.replaceAll("-", byte), "spoofed"]);
      for (const [service, answer] of [
        [users, await edge.get(path, { token, headers })],
        [auth, await edge.get("/api/v1/auth/public-key", { headers })],
      ]) {
        assert.equal(answer.status, 200, answer.body);
        const reached = Object.entries(service.requests.at(-1).headers).filter(([, value]) =>
          value.includes("spoofed"),
        );
        assert.deepEqual(reached, [], name);
      }
    }
  });

  test("identity headers in a service's answer never reach a client", async () => {
    const headers = {
      "x.user.id": "leaked",
      x_gateway_assertion: "leaked",
      "x-acting-user": "leaked",
      "remote-user": "leaked",
    };
    auth.answer("/api/v1/auth/public-key", { headers: { ...headers, "x-other": "kept" }, json: {} });
    const answer = await edge.get("/api/v1/auth/public-key");
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["x-other"], "kept");
    assert.deepEqual(
      Object.entries(answer.headers).filter(([, value]) => value === "leaked"),
      [],
    );
  });

  test("header names that every JavaScript object has are passed on like others", async () => {
    const claims = issuer.claims();
    const headers = ["__proto__", "constructor", "toString", "valueOf"].map((name) => [name, `its ${name}`]);
    const token = await issuer.sign(claims);
    const answer = await edge.get(`/api/v1/users/${claims.sub}`, { token, headers });
    assert.equal(answer.status, 200);
    const seen = users.requests.at(-1).headers;
    assert.equal(seen["x-user-id"], claims.sub);
    assert.deepEqual(
      [seen.constructor, seen.tostring, seen.valueof],
      ["its constructor", "its toString", "its valueOf"],
    );
  });

  const latin1 = (text) => Buffer.from(text, "latin1");

  // Sends header lines unchanged and returns the answer.
  async function sendLines(lines, { method = "GET", path, token, body = "" }) {
    const head = [
      `${method} ${path} HTTP/1.1`,
      "Host: edge",
      `Authorization: Bearer ${token}`,
      ...lines,
      "Connection: close",
    ];
    const text = await sendBytes(edge.url, latin1(`${head.join("\r\n")}\r\n\r\n${body}`));
    return { status: Number(text.slice(9, 12)), text };
  }

  test("bytes that are not UTF-8 arrive unchanged, and nothing private with them", async () => {
    const claims = issuer.claims();
    const asked = { path: `/api/v1/users/${claims.sub}`, token: await issuer.sign(claims) };
    const kept = {
      "x-latin": "caf\xe9",
      "x-every": Array.from({ length: 128 }, (_, index) => String.fromCharCode(128 + index)).join(""),
      "x-utf8": Buffer.from("Zoë, 東京 🚪 \ufffd").toString("latin1"),
      "x-cut": "\xe2\x82 \xed\xa0\x80 \xc0\xaf \xf5",
      "user-agent": "b\xfccher/1.0",
      cookie: "a=\xe9; b=2",
    };
    const spoofed = [
      "X-User-Id: \xe9vil",
      "X_User-Roles: \xff",
      "X_Gateway-Assertion: \xe9",
      "X-Forwarded-For: \xe9",
      "X-Request-Id: \xe9",
    ];
    for (const method of ["GET", "PUT"]) {
      users.forget();
      const lines = [...Object.entries(kept).map(([name, value]) => `${name}: ${value}`), ...spoofed];
      if (method === "PUT") lines.push("Content-Length: 2");
      const { status, text } = await sendLines(lines, { ...asked, method, body: method === "PUT" ? "{}" : "" });
      assert.equal(status, 200, text);
      const { headers } = users.requests[0];
      for (const [name, value] of Object.entries(kept))
        assert.ok(latin1(headers[name]).equals(latin1(value)), `${name}: ${headers[name]}`);
      assert.equal(headers["x-user-id"], claims.sub);
      assert.equal(headers.authorization, undefined);
      assert.match(headers["x-request-id"], /^[0-9a-f-]{36}$/);
      assert.equal(Object.keys(headers).filter((name) => name.replaceAll("_", "-") === "x-user-roles").length, 1);
      await readAssertion(headers["x-gateway-assertion"], edge.assertionKeys.users, "users");
      const isKnown = (name) =>
        name in kept ||
        /^(host|accept.*|cf-.*|cache-control|pragma|content-length|connection|traceparent|x-request-.*|x-forwarded-.*|x-user-.*|x-gateway-assertion)$/.test(
          name,
        );
      assert.deepEqual(
        Object.keys(headers).filter((name) => !isKnown(name)),
        [],
      );
    }
  });

  test("an answer's headers keep their bytes, and each Set-Cookie its line", async () => {
    const claims = issuer.claims();
    const path = `/api/v1/users/${claims.sub}`;
    const token = await issuer.sign(claims);
    users.answer(`GET ${path}`, (incoming) => {
      const lines = [
        "X-Latin: caf\xe9",
        "Set-Cookie: a=\xe9",
        "Set-Cookie: b=2",
        "Content-Disposition: attachment; filename=\xfc.txt",
      ];
      incoming.socket.end(latin1(`HTTP/1.1 200 OK\r\n${lines.join("\r\n")}\r\nContent-Length: 2\r\n\r\n{}`));
    });
    const answer = await edge.get(path, { token });
    assert.equal(answer.headers["x-latin"], "caf\xe9");
    assert.deepEqual(answer.headers["set-cookie"], ["a=\xe9", "b=2"]);
    assert.equal(answer.headers["content-disposition"], "attachment; filename=\xfc.txt");
    users.answer(`GET ${path}`, undefined);
  });

  test("cookies of several lines arrive as those of one", async () => {
    const claims = issuer.claims();
    const asked = { path: `/api/v1/users/${claims.sub}`, token: await issuer.sign(claims) };
    for (const [lines, expected] of [
      [["a=1", "b=2"], "a=1; b=2"],
      [["a=1; b=2", "c=3", "d=4"], "a=1; b=2; c=3; d=4"],
      [["a=Mon, 28 Nov"], "a=Mon, 28 Nov"],
      [["a=1, __Host-session=forged"], "a=1, __Host-session=forged"],
      [["a=1; b=\xe9", "c=3"], "a=1; c=3"],
    ]) {
      const { status, text } = await sendLines(
        lines.map((line) => `Cookie: ${line}`),
        asked,
      );
      assert.equal(status, 200, text);
      assert.equal(users.requests.at(-1).headers.cookie, expected);
    }
  });

  test("a GET or HEAD with a body is 400 on every route and reaches no service; other methods' bodies arrive", async () => {
    const claims = issuer.claims();
    const path = `/api/v1/users/${claims.sub}`;
    const token = await issuer.sign(claims);
    users.forget();
    for (const method of ["GET", "HEAD"]) {
      for (const [line, body] of [
        ["Content-Length: 5", "hello"],
        ["Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"],
      ]) {
        for (const [where, expected, code] of [
          ...[path, "/health", "/ready", "/status", "/metrics"].map((own) => [own, 400, "body_unexpected"]),
          ["/nowhere", 404, "route_unknown"],
          ["/api/v1/auth/login", 405, "method_not_allowed"],
        ]) {
          const { status, text } = await sendLines([line], { method, path: where, token, body });
          assert.equal(status, expected, `${method} ${where} ${line}: ${text}`);
          if (method === "GET") assert.ok(text.includes(`"code":"${code}"`), text);
        }
      }
      const empty = await sendLines(["Content-Length: 0"], { method, path, token });
      assert.equal(empty.status, 200, "a body of no bytes is none");
      assert.equal((await sendLines(["Content-Length: 0"], { method, path: "/health", token })).status, 200);
    }
    assert.equal(users.requests.length, 2);
    const { status } = await sendLines(["Content-Length: 5"], { method: "DELETE", path, token, body: "hello" });
    assert.equal(status, 200);
    assert.equal(users.requests.at(-1).body, "hello");
  });

  test("each request leaves one log line without its token", async () => {
    const claims = issuer.claims();
    const token = await issuer.sign(claims);
    const answer = await edge.get(`/api/v1/users/${claims.sub}?secret=${token}`, {
      token,
      headers: { "user-agent": token },
    });
    const line = await edge.lineOf(answer);
    assert.equal(line.user_id, claims.sub);
    assert.equal(line.status, 200);
    assert.match(line.timestamp, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.ok(Math.abs(Date.now() - Date.parse(line.timestamp)) < 60_000);
    assert.ok(!edge.output.includes(token.split(".")[2]));
  });
});

test("each refusal leaves an audit event, and successes are logged at the configured share", async (t) => {
  const scope = testScope(t);
  const auth = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const edge = await startEdge(scope, { auth, users: auth, vars: { LOG_SUCCESSES: "0" } });
  const claims = issuer.claims();
  const token = await issuer.sign(claims);
  const eventOf = (answer) =>
    until("the audit event", () =>
      edge.lines.find((line) => line.event_type !== undefined && line.request_id === answer.headers["x-request-id"]),
    );
  const good = await edge.get("/api/v1/auth/me", { token });
  assert.equal(good.status, 200);
  const missing = await eventOf(await edge.get("/api/v1/auth/me"));
  assert.deepEqual(
    [missing.event_type, missing.result, missing.user_id, missing.detail],
    ["gateway.access", "denied", null, "credentials_missing"],
  );
  const refused = await eventOf(await edge.get("/api/v1/users", { token }));
  assert.equal(refused.user_id, claims.sub);
  assert.equal(refused.operation, "GET /api/v1/users");
  assert.equal(refused.detail, "rights_missing");
  assert.match(refused.timestamp, /^\d{4}-\d\d-\d\dT.*Z$/);
  assert.ok(!edge.lines.some((line) => line.request_id === good.headers["x-request-id"]), "no success is logged");
});

test("a browser that asks for HTML is refused with a page, a program with a problem", async (t) => {
  const scope = testScope(t);
  const auth = await startUpstream(scope);
  const edge = await startEdge(scope, { auth, users: auth });
  for (const [accept, type] of [
    ["text/html,application/xhtml+xml,*/*;q=0.8", /^text\/html/],
    ["application/json, text/html", /^application\/problem\+json/],
    ["*/*", /^application\/problem\+json/],
    [undefined, /^application\/problem\+json/],
  ]) {
    const answer = await edge.get("/nowhere", { headers: accept === undefined ? {} : { accept } });
    assert.equal(answer.status, 404);
    assert.match(answer.headers["content-type"], type);
    assert.ok(answer.body.includes(answer.headers["x-request-id"]));
    if (accept?.startsWith("text/html")) {
      assert.match(answer.body, /<style>[^<]+prefers-color-scheme:dark[^<]+<\/style>/);
      assert.match(answer.body, /Check the address/);
      assert.match(answer.headers["content-security-policy"], /^default-src 'none'; style-src 'sha256-[^']+'; /);
    }
  }
});

test("without the token, status and readiness show the state of the gateway and no names", async (t) => {
  const scope = testScope(t);
  const auth = await startUpstream(scope);
  (await createIssuer()).publishOn(auth);
  const token = remember("a-token-for-operators-of-headers");
  const vars = { METRICS_TOKEN: token, ASSERTION_KEYS_USERS: undefined };
  const edge = await startEdge(scope, { auth, users: auth, vars });
  const stranger = { "cf-connecting-ip": "192.0.2.7" };
  const hint = "send Authorization: Bearer METRICS_TOKEN for details";
  for (const [path, expected] of [
    ["/status", { status: "unhealthy", hint }],
    ["/ready", { ready: false, hint }],
  ]) {
    const answer = await edge.get(path, { headers: stranger });
    assert.deepEqual([answer.status, answer.json()], [503, expected]);
    const wrong = await edge.get(path, { headers: stranger, token: "wrong" });
    assert.deepEqual([wrong.status, wrong.json().code], [401, "metrics_token_wrong"]);
    for (const options of [{ headers: stranger, token }, {}]) {
      const { body } = await edge.get(path, options);
      assert.match(body, path === "/ready" ? /secret ASSERTION_KEYS_USERS is not set/ : /"name":"users"/);
    }
  }
  const { headers, body } = await edge.get("/metrics", { headers: stranger });
  assert.match(headers["www-authenticate"], /^Bearer realm="portcullis"$/);
  assert.equal(JSON.parse(body).detail, "Authorization header required");
});

const refusedAtStart = { skip: onlyOnPlatform("serve does not start with such settings") };

test("the log names the missing setting, and the answer does not", refusedAtStart, async (t) => {
  const scope = testScope(t);
  const auth = await startUpstream(scope);
  const edge = await startEdge(scope, { auth, users: auth, vars: { ASSERTION_KEYS_AUTH: "k1:too-short" } });
  const answer = await edge.post("/api/v1/auth/login", {});
  assert.deepEqual([answer.status, answer.json().code], [503, "gateway_misconfigured"]);
  assert.doesNotMatch(answer.body, /ASSERTION/);
  const { detail } = await edge.lineOf(answer);
  assert.match(detail, /^secret ASSERTION_KEYS_AUTH is not kid:base64url-of-32-bytes/);
  assert.doesNotMatch(edge.output, /too-short/);
  await edge.restart({ vars: { METRICS_TOKEN: "short" } });
  const refused = await edge.get("/");
  assert.deepEqual([refused.status, refused.json().code], [503, "gateway_misconfigured"]);
  assert.match((await edge.lineOf(refused)).detail, /^METRICS_TOKEN is shorter than/);
});
