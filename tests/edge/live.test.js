// Policies that are pushed into KV: applied without a build, and only if they are valid.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { BUILD, ROOT } from "../../scripts/lib/paths.js";
import { isServed, onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { compile, policiesOf, PUSHED } from "../harness/operators.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

describe("a pushed policy", () => {
  let auth, edge, policies;

  before(async () => {
    auth = await startUpstream(scope);
    edge = await startEdge(scope, { auth, users: auth, vars: { POLICY_REREAD_S: "1" } });
    policies = policiesOf(edge);
  });

  const statusOf = async (path) => (await edge.get(path)).status;
  const state = async () => {
    const {
      policy_origin: origin,
      policy_fault: fault,
      policy_version: version,
      status,
    } = (await edge.get("/status")).json();
    return { origin, fault, version, status };
  };

  test("is applied by a running isolate, which logs it", async () => {
    assert.equal(await statusOf("/pushed"), 404);
    const before = await state();
    assert.deepEqual([before.origin, before.fault], ["built-in", null]);
    await policies.put("current", await compile(PUSHED));
    await until("it is in use", async () => (await statusOf("/pushed")) === 200);
    assert.equal(await statusOf("/.well-known/jwks.json"), 404, "and the other is not");
    const after = await state();
    assert.equal(after.origin, "pushed");
    assert.notEqual(after.version, before.version);
  });

  test("that is invalid leaves the current one in use, and /status shows why", async () => {
    const good = JSON.parse(await compile(PUSHED));
    const [route] = good.routes;
    const upstream = good.upstreams.auth;
    const cors = { origins: ["https://a.example"] };
    const issuer = JSON.parse(await compile(readFileSync(join(ROOT, "gateway.toml"), "utf8"))).issuers["auth-service"];
    const changed = (changes) => JSON.stringify({ ...good, ...changes });
    const withRoute = (changes) => changed({ routes: [{ ...route, ...changes }] });
    const withUpstream = (changes) => changed({ upstreams: { auth: { ...upstream, ...changes } } });
    const withCors = (changes) => changed({ cors: { c: { ...cors, ...changes } } });
    const withIssuer = (changes) => changed({ issuers: { id: { ...issuer, ...changes } } });
    const { version } = await state();
    for (const [text, reason] of [
      ["", /cannot be read/],
      [changed({ version: 2 }), /version 2 is not known/],
      ["{", /cannot be read/],
      [changed({ extra: 1 }), /cannot be read: unknown field `extra`/],
      [withRoute({ only_from: "office" }), /cannot be read: unknown field `only_from`/],
      [withRoute({ access: undefined }), /cannot be read: missing field `access`/],
      [withRoute({ path: "/_gateway/x" }), /routes\[0\]\.path: .*the gateway's own paths/],
      [withRoute({ path: "/a/{x}/{x}" }), /is there twice/],
      [withRoute({ methods: ["get"] }), /method "get" is not known/],
      [withRoute({ access: { any: ["public"] } }), /would open the whole route/],
      [withRoute({ access: { roles: [] } }), /no caller is permitted/],
      [withRoute({ access: { owner: "id" } }), /not a parameter of the path/],
      [withRoute({ access: { claim: "x", equals: [] } }), /a claim is compared with/],
      [withRoute({ access: { claim: "x", equals: null } }), /a claim is compared with/],
      [withRoute({ upstream: "nobody" }), /no upstream is named "nobody"/],
      [withRoute({ limits: ["nothing"] }), /no limit is named "nothing"/],
      [withRoute({ cors: "nothing" }), /no cors is named "nothing"/],
      [withRoute({ replace_prefix: { from: "/pushed", to: "/a/../admin" } }), /whole fixed segments/],
      [changed({ routes: [route, route] }), /routes\[1\]\.path: .*is already defined/],
      [changed({ revocation: { max_age_s: 9e9 } }), /revocation\.max_age_s = 9000000000 is out of range/],
      [withUpstream({ url: undefined, targets: [{ url: "http://evil.example" }] }), /sends tokens over plain HTTP/],
      [changed({ upstreams: { "a b": upstream } }), /upstream name "a b" must be/],
      [withCors({ origins: ["*"], credentials: true }), /credentials cannot go to/],
      [withCors({ origins: ["https://*"] }), /is no origin/],
      [withCors({ expose: ["x\nset-cookie"] }), /is not the name of a header/],
      [withIssuer({ leeway_s: 1_000_000 }), /leeway_s = 1000000 is out of range/],
      [withIssuer({ jwks_path: "@evil.example/" }), /must begin with \//],
      [
        withIssuer({ issuer: "HTTP://x", discovery: true, jwks_upstream: undefined, jwks_path: undefined }),
        /discovery asks the issuer itself/,
      ],
      // The store of the served edge takes no such value.
      ...(isServed ? [] : [[JSON.stringify(good).replace("{", `{${" ".repeat(17 * 1024 * 1024)}`), /cannot be read/]]),
    ]) {
      await policies.put("current", text);
      const now = await until(`it is looked at: ${reason}`, async () => {
        const seen = await state();
        return seen.fault !== null && reason.test(seen.fault) && seen;
      });
      assert.deepEqual([now.version, now.origin, now.status], [version, "pushed", "degraded"]);
      assert.equal(await statusOf("/pushed"), 200);
    }
  });

  test("that is invalid makes a new isolate use the previous one", async () => {
    await policies.put("previous", await compile(PUSHED.replaceAll("/pushed", "/before")));
    await policies.put("current", "nonsense");
    await edge.restart();
    assert.equal(await statusOf("/before"), 200);
    assert.equal((await state()).origin, "pushed before");
  });

  test("applies to the first request of a new isolate", async () => {
    await policies.put("current", await compile(PUSHED.replaceAll("/pushed", "/first")));
    await edge.restart();
    assert.equal(await statusOf("/first"), 200);
  });

  const fresh = { skip: onlyOnPlatform("the supervisor sends the first request") };
  test("is read once for requests that arrive at a new isolate together", fresh, async () => {
    const reads = () => edge.output.split("KV read of policy/current").length - 1;
    const askTogether = async () => new Set(await Promise.all(Array.from({ length: 50 }, () => statusOf("/first"))));
    await edge.restart({ vars: { LOG_KV: "true" } });
    edge.output = "";
    assert.deepEqual([await askTogether(), reads()], [new Set([200]), 1]);
    // A failure answers those that wait for it; the next request reads again.
    await edge.restart({ vars: { LOG_KV: "fail" } });
    edge.output = "";
    assert.deepEqual(await askTogether(), new Set([503]));
    const failed = reads();
    assert.ok(failed < 50, `${failed} reads`);
    assert.equal(await statusOf("/first"), 503);
    await until("it is read again", () => reads() > failed);
    await edge.restart({ vars: { LOG_KV: undefined } });
  });

  test("that is removed is replaced by the built-in one", async () => {
    await policies.remove("current");
    await until("the built-in one is in use", async () => (await state()).origin === "built-in");
    assert.equal(await statusOf("/first"), 404);
  });

  test("with the text of the built-in one is a pushed one until it is removed", async () => {
    const { version } = await state();
    const { policy } = await import(join(BUILD, "policy.js"));
    await policies.put("current", policy());
    await until("it is in use", async () => (await state()).origin === "pushed");
    assert.equal((await state()).version, version);
    await policies.remove("current");
    await until("the built-in one is in use", async () => (await state()).origin === "built-in");
  });

  test("is not read where that is switched off", async () => {
    await policies.put("current", await compile(PUSHED));
    await edge.restart({ vars: { LIVE_POLICY: undefined } });
    assert.equal(await statusOf("/pushed"), 404);
    assert.equal((await state()).origin, "built-in");
  });
});
