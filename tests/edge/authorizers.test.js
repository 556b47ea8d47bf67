// Authorizers: a fake policy decision point that fails in every way, and a real one (Cerbos) as the judge of the
// questions. The tables of tests/native/authorizers.rs have more attacks.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { probePort } from "../../cli/lib/ports.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();
const require = createRequire(import.meta.url);

const PLACE = "/access/v1/evaluation";
const TIMEOUT_MS = 400;

const policy = (url) => `
[issuers.own]
issuer = "own"
audience = ["api"]
algorithms = ["ES256"]
jwks_file = "own.json"

[upstreams.users]
url = "http://127.0.0.1:1"

[authorizers.pdp]
url = "${url}${PLACE}"
timeout_ms = ${TIMEOUT_MS}
breaker = { failures = 1000 }

[authorizers.cached]
url = "${url}${PLACE}"
timeout_ms = 5000
cache_s = 60

[[routes]]
path = "/items/{id}"
methods = ["GET", "POST", "DELETE"]
upstream = "users"
access = "user"
authorizer = "pdp"

[[routes]]
path = "/cached/{id}"
methods = ["GET"]
upstream = "users"
access = "user"
authorizer = "cached"
`;

const codeOf = ({ status, body }) => (status === 200 ? "ok" : JSON.parse(body).code);

let own;

before(async () => {
  own = await createIssuer({ name: "own", algorithm: "ES256" });
});

const start = (users, url, vars = {}) =>
  startEdge(scope, { users, vars, policy: { text: policy(url), files: { "own.json": JSON.stringify(own.jwks()) } } });

describe("an authorizer", () => {
  const SECRET = "pdp-secret-0";
  let users, pdp, other, edge, token;

  before(async () => {
    [users, pdp, other] = [await startUpstream(scope), await startUpstream(scope), await startUpstream(scope)];
    edge = await start(users, pdp.url, { AUTHORIZER_TOKEN_PDP: SECRET });
    token = await own.accessToken({ sub: "ada", roles: ["user"] });
  });

  const get = (path) => edge.get(path, { token });

  test("gets a question by POST with its secret, and neither token nor query", async () => {
    pdp.answer(PLACE, { json: { decision: true } });
    const answer = await get("/items/a%20b?key=1");
    assert.equal(answer.status, 200, answer.body);
    const { method, headers, body } = pdp.requests.at(-1);
    assert.equal(method, "POST");
    assert.equal(headers["content-type"], "application/json");
    assert.equal(headers.authorization, `Bearer ${SECRET}`);
    assert.equal(headers["x-request-id"], answer.headers["x-request-id"]);
    assert.deepEqual(
      Object.keys(headers).filter((name) => /cookie|forwarded|assertion|x-user/.test(name)),
      [],
    );
    const { subject, action, resource } = JSON.parse(body);
    assert.deepEqual([subject.type, subject.id, subject.properties.roles], ["identity", "ada", ["user"]]);
    assert.deepEqual(action, { name: "GET" });
    const properties = { path: "/items/a%20b", params: { id: "a b" } };
    assert.deepEqual(resource, { type: "route", id: "/items/{id}", properties });
    const sent = JSON.stringify(pdp.requests.at(-1));
    assert.ok(!sent.includes(token) && !sent.includes("key=1"));
  });

  test("lets a request pass by a decision of true alone, and fails closed", async () => {
    const yes = '{"decision":true}';
    const json = { "content-type": "application/json" };
    other.answer({ json: { decision: true } });
    for (const [fault, given, expected, detail] of [
      ["true", { headers: json, body: yes }, "ok"],
      ["false", { json: { decision: false } }, "authorization_denied"],
      ["a text", { json: { decision: "true" } }, "authorization_unavailable", "bad_answer"],
      ["no JSON", { body: "<html>true</html>" }, "authorization_unavailable", "bad_answer"],
      [
        "a redirect to a server that says true",
        { status: 307, headers: { ...json, location: `${other.url}${PLACE}` }, body: yes },
        "authorization_unavailable",
        "redirect",
      ],
      [
        "too long",
        { json: { decision: true, context: "x".repeat(1_000_000) } },
        "authorization_unavailable",
        "too_large",
      ],
      ["a fault", { status: 500, body: yes }, "authorization_unavailable", "status"],
      ["never", () => {}, "authorization_unavailable", "timeout"],
      [
        "a body that never ends",
        (_request, response) => response.writeHead(200, json).write(`${yes} `),
        "authorization_unavailable",
        "timeout",
      ],
      [
        "half a body",
        (_request, response) => {
          response.writeHead(200, { ...json, "content-length": "99" }).write(yes);
          setTimeout(() => response.destroy(), 20);
        },
        "authorization_unavailable",
        "unreachable",
      ],
      [
        "a reset",
        (_request, response) => response.socket.resetAndDestroy(),
        "authorization_unavailable",
        "unreachable",
      ],
    ]) {
      users.forget();
      pdp.answer(PLACE, given);
      const answer = await get("/items/7");
      assert.equal(codeOf(answer), expected, fault);
      assert.equal(users.requests.length, expected === "ok" ? 1 : 0, fault);
      if (expected === "authorization_unavailable") {
        assert.equal(answer.status, 503, fault);
        assert.ok(Number(answer.headers["retry-after"]) > 0, fault);
        assert.equal((await edge.lineOf(answer)).detail, detail, fault);
      }
      if (expected === "authorization_denied") assert.equal(answer.status, 403);
    }
    assert.equal(other.requests.length, 0, "a redirect is not followed");
    assert.ok(!edge.output.includes(SECRET) && !edge.output.includes(PLACE));
  });

  test("that is down opens its circuit, and is asked again", async () => {
    await pdp.stop();
    for (let count = 0; count < 5; count += 1)
      assert.equal(codeOf(await get("/cached/1")), "authorization_unavailable");
    const answer = await get("/cached/1");
    assert.equal((await edge.lineOf(answer)).detail, "resting");
    const { authorizers } = (await edge.get("/status")).json();
    assert.deepEqual(
      authorizers.map(({ name, status, breaker }) => [name, status, breaker]),
      [
        ["cached", "degraded", "open"],
        ["pdp", "degraded", "closed"],
      ],
    );
    await pdp.start();
    pdp.answer(PLACE, { json: { decision: true } });
    await until("the circuit closes", async () => codeOf(await get("/cached/1")) === "ok");
  });

  test("is not asked again for the same question, and its permission is for one user", async () => {
    pdp.answer(PLACE, { json: { decision: true } });
    assert.equal(codeOf(await get("/cached/7")), "ok");
    pdp.forget();
    pdp.answer(PLACE, { json: { decision: false } });
    assert.equal(codeOf(await get("/cached/7")), "ok");
    assert.equal(pdp.requests.length, 0);
    const eve = await own.accessToken({ sub: "eve", roles: ["user"] });
    assert.equal(codeOf(await edge.get("/cached/7", { token: eve })), "authorization_denied");
    assert.equal(codeOf(await get("/cached/8")), "authorization_denied");
    const admin = await own.accessToken({ sub: "ada", roles: ["admin"] });
    assert.equal(codeOf(await edge.get("/cached/7", { token: admin })), "authorization_denied");
    assert.equal(pdp.requests.length, 3);
  });
});

// The program of this platform, if the package has one.
function findCerbos() {
  const name = `@cerbos/cerbos-${process.platform}-${process.arch}`;
  try {
    return require.resolve(`${name}/cerbos-${process.platform}-${process.arch}`);
  } catch {
    return undefined;
  }
}

const CERBOS_POLICY = `
apiVersion: api.cerbos.dev/v1
resourcePolicy:
  version: default
  resource: route
  rules:
    - actions: ["GET"]
      effect: EFFECT_ALLOW
      roles: ["*"]
      condition:
        match:
          expr: R.id == "/items/{id}" && (R.attr.params.id == P.id || "auditor" in P.attr.roles)
    - actions: ["POST", "DELETE"]
      effect: EFFECT_ALLOW
      roles: ["*"]
      condition:
        match:
          expr: R.attr.path.startsWith("/items/") && "editor" in P.attr.roles && P.attr.issuer == "own"
`;

const program = findCerbos();

describe("Cerbos, a policy decision point by AuthZEN", { skip: !program && "has no program for this platform" }, () => {
  let users, edge;

  before(async () => {
    users = await startUpstream(scope);
    const folder = temporaryFolder(scope, "cerbos");
    const policies = join(folder, "policies");
    mkdirSync(policies);
    writeFileSync(join(policies, "route.yaml"), CERBOS_POLICY);
    const port = await probePort(0);
    const settings = {
      server: { httpListenAddr: `127.0.0.1:${port}`, grpcListenAddr: `unix:${join(folder, "grpc.sock")}` },
      storage: { driver: "disk", disk: { directory: policies } },
      telemetry: { disabled: true },
    };
    // JSON is YAML.
    writeFileSync(join(folder, "config.yaml"), JSON.stringify(settings));
    const child = spawn(program, ["server", "--config", join(folder, "config.yaml")], { stdio: "ignore" });
    const ended = new Promise((resolve) => child.once("exit", resolve));
    scope.after(async () => {
      child.kill("SIGKILL");
      await ended;
    });
    const url = `http://127.0.0.1:${port}`;
    await until("Cerbos answers", async () => (await fetch(`${url}/_cerbos/health`).catch(() => undefined))?.ok);
    edge = await start(users, url);
  });

  test("decides about each request by its caller, method and path", async () => {
    for (const [sub, roles] of [
      ["ada", ["user"]],
      ["eve", ["editor"]],
      ["zoë b", ["auditor", "editor"]],
      ["bob", []],
    ]) {
      const token = await own.accessToken({ sub, user_id: sub, roles });
      for (const id of ["ada", "eve", "zoë b"]) {
        for (const method of ["GET", "POST", "DELETE"]) {
          const isRead = method === "GET";
          const may = isRead ? sub === id || roles.includes("auditor") : roles.includes("editor");
          const headers = { authorization: `Bearer ${token}` };
          const answer = await edge.send({ method, path: `/items/${encodeURIComponent(id)}`, headers });
          assert.equal(codeOf(answer), may ? "ok" : "authorization_denied", `${method} ${id} by ${sub}`);
        }
      }
      // Cerbos knows no rule for this route.
      assert.equal(codeOf(await edge.get("/cached/ada", { token })), "authorization_denied");
    }
  });
});
