// Policies that are pushed into KV: applied without a build, and only if they are valid.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { openPolicyTool } from "../../scripts/lib/policy-tool.js";
import { startEdge } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const POLICY = `
[upstreams.auth]
url = "http://127.0.0.1:1"

[[routes]]
path = "/pushed"
methods = ["GET"]
upstream = "auth"
access = "public"
`;

describe("a pushed policy", () => {
  let auth, edge, compile;

  before(async () => {
    const run = await openPolicyTool();
    compile = (text) => {
      const { out, errors } = run({ command: "compile", policy: { name: "gateway.toml", text } });
      assert.deepEqual(errors, []);
      return out;
    };
    auth = await startUpstream(scope);
    edge = await startEdge(scope, { auth, users: auth, vars: { POLICY_REREAD_S: "1" } });
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
  const put = async (name, text) => (await edge.kv()).put(`policy/${name}`, text);

  test("is applied by a running isolate, which logs it", async () => {
    assert.equal(await statusOf("/pushed"), 404);
    const before = await state();
    assert.deepEqual([before.origin, before.fault], ["built-in", null]);
    await put("current", compile(POLICY));
    await until("it is in use", async () => (await statusOf("/pushed")) === 200);
    assert.equal(await statusOf("/.well-known/jwks.json"), 404, "and the other is not");
    const after = await state();
    assert.equal(after.origin, "pushed");
    assert.notEqual(after.version, before.version);
  });

  test("that is invalid leaves the current one in use, and /status shows why", async () => {
    const good = JSON.parse(compile(POLICY));
    const [route] = good.routes;
    const [upstream] = good.upstreams;
    const cors = {
      name: "c",
      origins: ["https://a.example"],
      credentials: false,
      headers: [],
      expose: [],
      max_age_s: 1,
    };
    const { issuers } = JSON.parse(compile(readFileSync(join(ROOT, "gateway.toml"), "utf8")));
    const [issuer] = issuers;
    const changed = (changes) => JSON.stringify({ ...good, ...changes });
    const { version } = await state();
    for (const [text, reason] of [
      ["", /cannot be read/],
      ["{", /cannot be read/],
      [changed({ extra: 1 }), /not in this worker's form/],
      [changed({ routes: [{ ...route, only_from: "office" }] }), /not in this worker's form/],
      [changed({ routes: [(({ issuers: _, ...rest }) => rest)(route)] }), /not in this worker's form/],
      [changed({ routes: [{ ...route, path: "/_gateway/x" }] }), /not one that a policy may have/],
      [changed({ routes: [{ ...route, path: "/a/{x}/{x}" }] }), /not one that a policy may have/],
      [changed({ routes: [{ ...route, methods: ["get"] }] }), /not one that a policy may have/],
      [changed({ routes: [{ ...route, access: { any: ["public"] } }] }), /would open it/],
      [changed({ routes: [{ ...route, access: { roles: [] } }] }), /let nobody in/],
      [changed({ routes: [{ ...route, access: { owner: "id" } }] }), /let nobody in/],
      [changed({ routes: [{ ...route, access: { claim: { claim: ["x"], rule: { equals: [] } } } }] }), /would open it/],
      [changed({ routes: [{ ...route, upstream: "nobody" }] }), /no upstream of that name/],
      [changed({ routes: [{ ...route, limits: ["nothing"] }] }), /not there/],
      [changed({ routes: [{ ...route, cors: "nothing" }] }), /not there/],
      [changed({ routes: [{ ...route, rewrite: ["/pushed", "/a/../admin"] }] }), /rewritten to no path/],
      [changed({ routes: [route, route] }), /a method twice/],
      [changed({ revocation_max_age_ms: 9e15 }), /out of range/],
      [changed({ upstreams: [{ ...upstream, targets: [{ url: "http://evil.example", weight: 1 }] }] }), /no place/],
      [changed({ upstreams: [{ ...upstream, name: "a b" }] }), /is none/],
      [changed({ cors: [{ ...cors, origins: ["*"], credentials: true }] }), /credentials to everybody/],
      [changed({ cors: [{ ...cors, origins: ["https://*"] }] }), /no origin/],
      [changed({ cors: [{ ...cors, expose: ["x\nset-cookie"] }] }), /no origin or header/],
      [changed({ issuers: [{ ...issuer, leeway_s: 1_000_000 }] }), /out of range/],
      [
        changed({ issuers: [{ ...issuer, jwks: { upstream: { upstream: "auth", path: "@evil.example/" } } }] }),
        /no keys/,
      ],
      [changed({ issuers: [{ ...issuer, issuer: "HTTP://x", jwks: "discovery" }] }), /no keys/],
      [JSON.stringify(good).replace("{", `{${" ".repeat(17 * 1024 * 1024)}`), /cannot be read/],
    ]) {
      await put("current", text);
      const now = await until(`it is looked at: ${reason}`, async () => {
        const seen = await state();
        return seen.fault !== null && reason.test(seen.fault) && seen;
      });
      assert.deepEqual([now.version, now.origin, now.status], [version, "pushed", "degraded"]);
      assert.equal(await statusOf("/pushed"), 200);
    }
  });

  test("that is invalid makes a new isolate use the previous one", async () => {
    await put("previous", compile(POLICY.replaceAll("/pushed", "/before")));
    await put("current", "nonsense");
    await edge.restart();
    assert.equal(await statusOf("/before"), 200);
    assert.equal((await state()).origin, "pushed before");
  });

  test("applies to the first request of a new isolate", async () => {
    await put("current", compile(POLICY.replaceAll("/pushed", "/first")));
    await edge.restart();
    assert.equal(await statusOf("/first"), 200);
  });

  test("that is removed is replaced by the built-in one", async () => {
    await (await edge.kv()).delete("policy/current");
    await until("the built-in one is in use", async () => (await state()).origin === "built-in");
    assert.equal(await statusOf("/first"), 404);
  });

  test("is not read where that is switched off", async () => {
    await put("current", compile(POLICY));
    await edge.restart({ vars: { LIVE_POLICY: undefined } });
    assert.equal(await statusOf("/pushed"), 404);
    assert.equal((await state()).origin, "built-in");
  });
});
