// API keys through all services: an administrator creates one at the auth service, the gateway accepts it, and refuses it
// soon after it was ended.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { NODE, ROOT } from "../../scripts/lib/paths.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const KEYS = "/api/v1/auth/api-keys";

const POLICY = `
[issuers.partners]
issuer = "api-keys"
api_keys = { prefix = "pck", from = "auth-service" }

[[routes]]
path = "/keyed"
methods = ["GET"]
upstream = "auth"
access = { scopes = ["keys:read"] }
issuers = ["partners"]
`;

describe("API keys", () => {
  let stack, admin, owner;

  before(async () => {
    stack = await startStack(scope);
    appendFileSync(join(stack.data, "edge.vars"), 'POLICY_REREAD_S="1"\n');
    await stack.edge.restart();
    const file = join(temporaryFolder(scope, "policy"), "gateway.toml");
    writeFileSync(file, readFileSync(join(ROOT, "gateway.toml"), "utf8") + POLICY);
    const { status, stderr } = spawnSync(NODE, [join(ROOT, "scripts/policy-push.js"), "--file", file], {
      cwd: ROOT,
      env: { ...process.env, DATA_DIR: stack.data },
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    admin = await stack.loginAsAdmin();
    const session = await stack.login((await stack.register()).account);
    const me = await stack.send({ path: "/api/v1/auth/me", headers: session.bearer });
    owner = me.json().user.id;
    await until("the policy is in use", async () => (await call("pck_")).status === 401);
  });

  // The service knows no such path: 404 means that the gateway has let the key in.
  const call = (key) => stack.send({ path: "/keyed", headers: { authorization: `Bearer ${key}` } });
  const asAdmin = (method, path, json) => stack.send({ method, path, headers: admin.bearer, json });

  const pushes = () => stack.output("edge").split('"event_type":"gateway.api_keys"').length;

  async function create(scopes) {
    const before = pushes();
    const answer = await asAdmin("POST", KEYS, { name: "Nightly report", owner, scopes });
    assert.equal(answer.status, 201, answer.body);
    const { key, api_key: made } = answer.json();
    // Not asked before it is known: the gateway remembers for seconds, and KV for a minute, that there is no record.
    await until("the gateway has the key", async () => pushes() > before);
    return { key: remember(key), id: made.id };
  }

  test("a key is accepted soon after it was created, for its scopes alone, until it is ended", async (t) => {
    const [one, other] = [await create(["keys:read"]), await create(["invoices:read"])];
    const admitted = await call(one.key);
    assert.deepEqual([admitted.status, admitted.json().code], [404, "not_found"], admitted.body);
    assert.equal((await call(other.key)).status, 403);
    const ended = await asAdmin("DELETE", `${KEYS}/${one.id}`);
    assert.ok(ended.status < 300, ended.body);
    const began = Date.now();
    await until("the gateway refuses the key", async () => (await call(one.key)).status === 401);
    t.diagnostic(`refused ${Date.now() - began} ms after its end`);
    assert.equal((await call(one.key)).json().code, "token_revoked");
    assert.equal((await call(other.key)).status, 403, "the other key lives on");
    for (const name of ["edge", "auth"]) assert.ok(!stack.output(name).includes(one.key), name);
  });
});
