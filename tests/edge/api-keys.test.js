// API keys in workerd: pushed by a service, kept in KV, ended by the revocation log, with two isolates.

import assert from "node:assert/strict";
import { createHash, randomBytes, randomUUID } from "node:crypto";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const PUSH = "/_gateway/api-keys";

// Milliseconds; crates/token/src/revocation/limits.rs.
const STALE_MS = 4_000;

const issuerOf = (name, path) => `
[issuers.${name}]
issuer = "${name}"
audience = ["api"]
algorithms = ["RS256"]
jwks_upstream = "auth"
jwks_path = "${path}"
revocations_from = "${name}"
`;

const POLICY = `
${issuerOf("auth-service", "/.well-known/jwks.json")}
${issuerOf("stranger", "/stranger.json")}
[issuers.partners]
issuer = "api-keys"
api_keys = { prefix = "pck", from = "auth-service" }

[issuers.devices]
issuer = "device-keys"
api_keys = { prefix = "dev", from = "auth-service" }
token_header = "X-Api-Key"

[limits.login]
by = "user"

[upstreams.auth]
url = "http://127.0.0.1:1"
assertion = { claims = ["owner"] }

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "auth"
access = "user"

[[routes]]
path = "/strict"
methods = ["GET"]
upstream = "auth"
access = "user"
revocation = "strict"

[[routes]]
path = "/write"
methods = ["GET"]
upstream = "auth"
access = { scopes = ["write"] }
issuers = ["partners"]

[[routes]]
path = "/of/{owner}"
methods = ["GET"]
upstream = "auth"
access = { claim = "owner", equals_path = "owner" }
issuers = ["partners"]

[[routes]]
path = "/limited"
methods = ["GET"]
upstream = "auth"
access = "user"
limits = ["login"]
`;

const scope = fileScope();

// Makes a key as docs/standards/api-keys.md describes it.
function makeKey(prefix = "pck") {
  const text = `${prefix}_${randomBytes(20).toString("hex")}`;
  return text + createHash("sha256").update(text).digest("hex").slice(0, 8);
}

const digestOf = (key) => createHash("sha256").update(key).digest("base64url");

describe("API keys at the running gateway", () => {
  let auth, issuer, stranger, edge;

  before(async () => {
    auth = await startUpstream(scope);
    issuer = (await createIssuer()).publishOn(auth);
    stranger = (await createIssuer({ name: "stranger" })).publishOn(auth, "/stranger.json");
    const limits = { LIMIT_LOGIN: { limit: 3, period: 60 } };
    edge = await startEdge(scope, { auth, policy: { text: POLICY }, twin: true, limits });
  });

  function serviceToken(of = issuer, changes = {}) {
    const claims = { sub: of.name, aud: "portcullis", token_type: "service", roles: ["service"], sid: undefined };
    return of.sign(of.claims({ ...claims, ...changes }), { typ: "service+jwt" });
  }

  const push = async (body, token) =>
    edge.post(PUSH, { issuer: "api-keys", ...body }, { token: token ?? (await serviceToken()) });

  const item = (key, changes) => {
    const now = Math.floor(Date.now() / 1000);
    return {
      digest: digestOf(key),
      id: randomUUID(),
      owner: "ada",
      scope: "read",
      iat: now,
      exp: now + 86_400,
      ...changes,
    };
  };

  async function create(changes = {}, body = {}) {
    const key = makeKey(changes.prefix);
    const { prefix: _, ...rest } = changes;
    const created = item(key, rest);
    const answer = await push({ keys: [created], ...body });
    assert.deepEqual([answer.status, answer.json()], [200, { keys: 1, ended: 0 }], answer.body);
    return { key, ...created };
  }

  const codeOf = (answer) => (answer.status === 200 ? "ok" : `${answer.status} ${answer.json().code}`);
  const get = async (path, token) => codeOf(await edge.get(path, { token }));
  const twinSays = async (path, token) => {
    const { status, json } = await edge.twin({ path, token });
    return status === 200 ? "ok" : `${status} ${json.code}`;
  };

  test("a key that was pushed opens what its scopes and its owner may enter, in each isolate", async () => {
    const { key, id } = await create();
    const writer = await create({ scope: "read write", exp: undefined, owner: "eve" });
    assert.deepEqual(
      await Promise.all([
        get("/me", key),
        get("/strict", key),
        get("/write", key),
        get("/write", writer.key),
        get("/of/ada", key),
        get("/of/ada", writer.key),
        twinSays("/me", key),
      ]),
      ["ok", "ok", "403 rights_missing", "ok", "ok", "403 rights_missing", "ok"],
    );
    const answer = await edge.get("/me", { token: key });
    assert.equal((await edge.lineOf(answer)).user_id, id);
    const { headers } = auth.requests.filter(({ path }) => path === "/me").at(-1);
    assert.deepEqual([headers["x-user-id"], headers.authorization], [id, undefined]);
  });

  test("a limit by user counts each key", async () => {
    const [one, two] = [await create(), await create()];
    for (let count = 0; count < 3; count += 1) assert.equal(await get("/limited", one.key), "ok");
    await until("the key is beyond its limit", async () => (await get("/limited", one.key)) === "429 rate_limited");
    assert.equal(await get("/limited", two.key), "ok");
  });

  test("a text that is no active key, or one in another place, is 401", async () => {
    const { key } = await create();
    const device = makeKey("dev");
    assert.equal((await push({ issuer: "device-keys", keys: [item(device)] })).status, 200);
    assert.equal(codeOf(await edge.get("/me", { headers: { "x-api-key": device } })), "ok");
    const last = key.at(-1) === "0" ? "1" : "0";
    for (const [name, token, code] of [
      ["a wrong checksum", key.slice(0, -1) + last, "token_malformed"],
      ["a wrong digit", key.replace(/_./, key[4] === "0" ? "_1" : "_0"), "token_malformed"],
      ["an unknown key", makeKey(), "token_inactive"],
      ["the prefix of another issuer", key.replace("pck_", "dev_"), "token_source_invalid"],
      ["a key of a header in Authorization", device, "token_source_invalid"],
      ["a digest", digestOf(key), "token_malformed"],
      ["a key in upper case", key.toUpperCase(), "token_malformed"],
    ]) {
      assert.equal(await get("/me", token), `401 ${code}`, name);
    }
    const shown = (headers) => edge.get("/me", { headers }).then(codeOf);
    assert.equal(await shown({ "x-api-key": key }), "401 token_source_invalid");
    assert.equal(await shown({ "x-api-key": device, authorization: `Bearer ${key}` }), "401 credentials_ambiguous");
  });

  test("a key that has ended is refused: here at once, elsewhere within the window, although KV has its record", async (t) => {
    const { key, ...created } = await create();
    assert.deepEqual([await get("/me", key), await twinSays("/me", key)], ["ok", "ok"]);
    const name = `apikeys/1/partners/${created.digest}`;
    const kv = await edge.kv();
    const record = await kv.get(name);
    const answer = await push({ ended: [{ digest: created.digest, id: created.id }] });
    const ended = Date.now();
    assert.deepEqual([answer.status, answer.json()], [200, { keys: 0, ended: 1 }]);
    assert.equal(await kv.get(name), '{"ended":true}');
    // As if another location still had it.
    await kv.put(name, record);
    assert.equal(await get("/me", key), "401 token_revoked");
    assert.equal(await twinSays("/strict", key), "401 token_revoked");
    let letInAt = ended;
    await until("the other isolate refuses it", async () => {
      const asked = Date.now();
      const said = await twinSays("/me", key);
      if (said === "ok") letInAt = asked;
      return said === "401 token_revoked";
    });
    t.diagnostic(`refused by the other isolate ${Date.now() - ended} ms after its end`);
    assert.ok(letInAt - ended <= STALE_MS, `let in ${letInAt - ended} ms later`);
    await edge.restart();
    assert.equal(await get("/me", key), "401 token_revoked", "a new isolate");
    // A creation that arrives late is an end.
    assert.equal((await push({ keys: [created] })).status, 200);
    assert.equal(await (await edge.kv()).get(name), '{"ended":true}');
    assert.equal(await get("/me", key), "401 token_revoked");
  });

  test("a hundred keys are created and ended at a time", async () => {
    const keys = Array.from({ length: 100 }, () => makeKey());
    const items = keys.map((key) => item(key));
    const created = await push({ keys: items });
    assert.deepEqual([created.status, created.json()], [200, { keys: 100, ended: 0 }], created.body);
    assert.deepEqual([await get("/me", keys[0]), await get("/me", keys[99])], ["ok", "ok"]);
    const ended = await push({ ended: items.map(({ digest, id }) => ({ digest, id })) });
    assert.deepEqual([ended.status, ended.json()], [200, { keys: 0, ended: 100 }], ended.body);
    assert.deepEqual(
      [await get("/me", keys[0]), await get("/me", keys[99])],
      ["401 token_revoked", "401 token_revoked"],
    );
    // The log is asked for all of them.
    assert.equal((await push({ keys: items })).status, 200);
    const kv = await edge.kv();
    assert.equal(await kv.get(`apikeys/1/partners/${items[99].digest}`), '{"ended":true}');
  });

  test("only the service of the named issuer may push", async () => {
    const key = makeKey();
    const keys = [item(key)];
    for (const [name, token, expected] of [
      ["a user", await issuer.accessToken({ roles: ["admin"] }), "401 token_type_header_invalid"],
      ["another service", await serviceToken(issuer, { sub: "user-service" }), "401 token_requirement_unmet"],
      ["the service of another issuer", await serviceToken(stranger), "403 rights_missing"],
    ]) {
      assert.equal(codeOf(await push({ keys }, token)), expected, name);
    }
    assert.equal(codeOf(await edge.post(PUSH, { issuer: "api-keys", keys })), "401 credentials_missing");
    assert.equal(codeOf(await push({ issuer: "auth-service", keys })), "404 route_unknown");
    assert.equal(await get("/me", key), "401 token_inactive");
  });

  test("no key and no owner is in a log, and each push is an audit event", async () => {
    const owner = randomUUID();
    const { key, digest } = await create({ owner });
    await get("/me", key);
    await get("/me", `${key}0`);
    const refused = await push({ keys: [{ digest: key }] });
    assert.equal(codeOf(refused), "400 api_keys_malformed");
    assert.ok(!refused.body.includes(key));
    const events = () => edge.lines.filter((line) => line.event_type === "gateway.api_keys");
    await until("both pushes are events", async () =>
      ["success", "denied"].every((result) => events().some((event) => event.result === result)),
    );
    for (const text of [key, owner, digest, key.slice(4)]) assert.ok(!edge.output.includes(text));
  });

  test("while KV fails, keys that are not cached are 503, and so are pushes", async () => {
    const { key } = await create();
    await edge.restart({ vars: { LOG_KV: "fail apikeys/" } });
    const answer = await edge.get("/me", { token: key });
    assert.equal(codeOf(answer), "503 api_keys_unavailable");
    assert.equal(answer.headers["retry-after"], "5");
    const lost = makeKey();
    const keys = [item(lost)];
    assert.equal(codeOf(await push({ keys })), "503 api_keys_unavailable");
    await edge.restart({ vars: { LOG_KV: undefined } });
    assert.deepEqual([await get("/me", key), await get("/me", lost)], ["ok", "401 token_inactive"]);
    assert.equal((await push({ keys })).status, 200, "the pusher repeats it");
    await until("the key is good", async () => (await get("/me", lost)) === "ok");
  });
});
