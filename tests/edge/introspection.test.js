// Introspection (RFC 7662): a fake endpoint that fails in every way, and a real authorization server (oidc-provider) as
// the judge of the questions. The tables of tests/native/introspection.rs have more attacks.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";

import * as dpop from "dpop";
import * as oauth from "oauth4webapi";
import { Provider } from "oidc-provider";

import { probePort } from "../../cli/lib/ports.js";
import { authorize, browser } from "../harness/browser.js";
import { startEdge } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Milliseconds; crates/token/src/revocation/limits.rs.
const STALE_MS = 4_000;

const CACHE_S = 2;
const TIMEOUT_MS = 400;
const PLACE = "/introspect";
const GATEWAY = "https://api.example.com";
const CALLBACK = "http://127.0.0.1:9/callback";
const SECRET = remember("the gateway's secret: 100 %");

const policy = (url, { issuer = "https://id.example", options = "" } = {}) => `
public_url = "${GATEWAY}"

[issuers.id]
issuer = "${issuer}"
audience = ["${GATEWAY}/"]
introspection = { url = "${url}", client_id = "gate way", ${options} }
revocable = true
proof = "optional"

[limits.failed-tokens]
by = "failed_ip"

[upstreams.users]
url = "http://127.0.0.1:1"

[[routes]]
path = "/things/{id}"
methods = ["GET"]
upstream = "users"
access = { scopes = ["read"] }
issuers = ["id"]

[[routes]]
path = "/strict"
methods = ["GET"]
upstream = "users"
access = "user"
revocation = "strict"

[[routes]]
path = "/logout"
methods = ["POST"]
upstream = "users"
access = "user"
ends_session = true
`;

const VARS = { INTROSPECTION_SECRET_ID: SECRET };
const codeOf = ({ status, body }) => (status === 200 ? "ok" : JSON.parse(body).code);
const newToken = () => remember(randomBytes(24).toString("base64url"));

describe("an introspection", () => {
  let users, server, other, edge;
  const active = (changes) => {
    const now = Math.floor(Date.now() / 1000);
    const claims = { aud: `${GATEWAY}/`, sub: "ada", scope: "read", iat: now, exp: now + 900 };
    return { active: true, token_type: "Bearer", ...claims, ...changes };
  };

  before(async () => {
    [users, server, other] = [await startUpstream(scope), await startUpstream(scope), await startUpstream(scope)];
    const options = `timeout_ms = ${TIMEOUT_MS}, breaker = { failures = 1000 }`;
    const limits = { LIMIT_FAILED_TOKENS: { limit: 20, period: 60 } };
    edge = await startEdge(scope, {
      users,
      vars: VARS,
      limits,
      policy: { text: policy(server.url + PLACE, { options }) },
    });
  });

  const get = (token, headers = {}) => edge.get("/things/1?key=1", { token, headers });

  test("is a form with the gateway's credentials, and nothing else of the request", async () => {
    server.answer(PLACE, { json: active() });
    const token = `${newToken()}.~+/==`;
    const answer = await get(token, { cookie: "a=1", "x-user-id": "root" });
    assert.equal(answer.status, 200, answer.body);
    const { method, headers, body } = server.requests.at(-1);
    assert.equal(method, "POST");
    assert.match(headers["content-type"], /^application\/x-www-form-urlencoded\b/);
    assert.deepEqual(Object.fromEntries(new URLSearchParams(body)), { token, token_type_hint: "access_token" });
    const [id, secret] = Buffer.from(headers.authorization.replace("Basic ", ""), "base64").toString().split(":");
    assert.deepEqual([id, secret].map(decodeURIComponent), ["gate way", SECRET]);
    assert.equal(headers["x-request-id"], answer.headers["x-request-id"]);
    assert.deepEqual(
      Object.keys(headers).filter((name) => /cookie|forwarded|assertion|x-user/.test(name)),
      [],
    );
    assert.ok(!JSON.stringify(server.requests.at(-1)).includes("key=1"));
    assert.ok(!JSON.stringify(users.requests.at(-1)).includes(token), "the service gets no token");
  });

  test("is shared by requests that arrive with the same token before its answer", async () => {
    const slowly = (json) => (_request, response) =>
      setTimeout(() => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(json)), 200);
    for (const [json, expected] of [
      [active(), "ok"],
      [{ active: false }, "token_inactive"],
    ]) {
      server.answer(PLACE, slowly(json));
      const before = server.requests.length;
      const [token, another] = [newToken(), newToken()];
      const answers = await Promise.all([...Array(10).fill(token), another].map((shown) => get(shown)));
      assert.deepEqual(answers.map(codeOf), Array(11).fill(expected));
      assert.equal(server.requests.length - before, 2, "one question about each token");
    }
  });

  test("fails closed, whatever the endpoint does", async () => {
    const json = { "content-type": "application/json" };
    const yes = JSON.stringify(active());
    const unavailable = "introspection_unavailable";
    other.answer({ json: active() });
    for (const [fault, given, expected, detail] of [
      ["active", { headers: json, body: yes }, "ok"],
      ["inactive", { json: { active: false } }, "token_inactive"],
      ["a refresh token", { json: active({ token_type: "refresh_token" }) }, "token_type_invalid"],
      ["a token for another service", { json: active({ aud: "https://bank.example/" }) }, "token_audience_invalid"],
      ["a text", { json: active({ active: "true" }) }, unavailable, "bad_answer"],
      ["no JSON", { body: "<html>active</html>" }, unavailable, "bad_answer"],
      [
        "a redirect to a server that says active",
        { status: 307, headers: { ...json, location: `${other.url}${PLACE}` }, body: yes },
        unavailable,
        "redirect",
      ],
      ["too long", { json: active({ extra: "x".repeat(1_000_000) }) }, unavailable, "too_large"],
      ["a wrong secret", { status: 401, json: { active: false } }, unavailable, "status"],
      ["a fault", { status: 500, body: yes }, unavailable, "status"],
      ["never", () => {}, unavailable, "timeout"],
      [
        "a body that never ends",
        (_request, response) => response.writeHead(200, json).write(`${yes} `),
        unavailable,
        "timeout",
      ],
      [
        "half a body",
        (_request, response) => {
          response.writeHead(200, { ...json, "content-length": "9999" }).write(yes);
          setTimeout(() => response.destroy(), 20);
        },
        unavailable,
        "unreachable",
      ],
      ["a reset", (_request, response) => response.socket.resetAndDestroy(), unavailable, "unreachable"],
    ]) {
      users.forget();
      server.answer(PLACE, given);
      const token = newToken();
      const answer = await get(token);
      assert.equal(codeOf(answer), expected, fault);
      assert.equal(users.requests.length, expected === "ok" ? 1 : 0, fault);
      const line = await edge.lineOf(answer);
      assert.equal(line.cache, "introspection", fault);
      if (expected === unavailable) {
        assert.equal(answer.status, 503, fault);
        assert.ok(Number(answer.headers["retry-after"]) > 0, fault);
        assert.equal(line.detail, detail, fault);
      } else if (expected !== "ok") {
        assert.equal(answer.status, 401, fault);
        assert.match(answer.headers["www-authenticate"], /error="invalid_token"/, fault);
      }
      assert.ok(!JSON.stringify([line, answer.body]).includes(token), fault);
    }
    assert.equal(other.requests.length, 0, "a redirect is not followed");
  });

  test("is not made for random tokens of an address that is beyond its limit", async () => {
    const address = { "cf-connecting-ip": "192.0.2.66" };
    server.answer(PLACE, { json: { active: false } });
    await until("the address is beyond its limit", async () => (await get(newToken(), address)).status === 429);
    const before = server.requests.length;
    for (let count = 0; count < 100; count += 1) assert.equal((await get(newToken(), address)).status, 429);
    assert.equal(server.requests.length, before);
    assert.equal(codeOf(await get(newToken(), { "cf-connecting-ip": "192.0.2.67" })), "token_inactive");
    server.answer(PLACE, { json: active() });
  });
});

describe("an introspection endpoint that is down", () => {
  test("opens its circuit, which readiness and status show, and is asked again", async () => {
    const [users, server] = [await startUpstream(scope), await startUpstream(scope)];
    const text = policy(server.url + PLACE, { options: "timeout_ms = 5000" });
    const edge = await startEdge(scope, { users, vars: VARS, policy: { text } });
    const get = () => edge.get("/things/1", { token: newToken() });
    assert.equal((await edge.get("/ready")).status, 200);
    await server.stop();
    for (let count = 0; count < 5; count += 1) assert.equal(codeOf(await get()), "introspection_unavailable");
    const answer = await get();
    assert.deepEqual([answer.status, (await edge.lineOf(answer)).detail], [503, "resting"]);
    assert.ok(Number(answer.headers["retry-after"]) > 0);
    const ready = await edge.get("/ready");
    assert.deepEqual(ready.json().missing, ["the introspection endpoint of issuer id does not answer"]);
    const { issuers } = (await edge.get("/status")).json();
    const expected = { name: "id", status: "degraded", introspection_secret: true, breaker: "open" };
    assert.deepEqual(issuers, [{ ...expected, last_error: "unreachable" }]);
    await server.start();
    server.answer(PLACE, { json: { active: false } });
    await until("the circuit closes", async () => codeOf(await get()) === "token_inactive");
    assert.equal((await edge.get("/ready")).status, 200);
  });

  test("is not asked without the gateway's secret", async () => {
    const [users, server] = [await startUpstream(scope), await startUpstream(scope)];
    const edge = await startEdge(scope, { users, policy: { text: policy(server.url + PLACE) } });
    assert.equal(codeOf(await edge.get("/things/1", { token: newToken() })), "introspection_unavailable");
    assert.equal(server.requests.length, 0);
    const { missing } = (await edge.get("/ready")).json();
    assert.deepEqual(missing, ["secret INTROSPECTION_SECRET_ID is not set"]);
  });
});

describe("an opaque token of oidc-provider", () => {
  const CLIENT = { client_id: "app" };
  const CLIENT_SECRET = remember("a secret of the app");
  let users, edge, issuer, server;

  before(async () => {
    const port = await probePort(0);
    issuer = `http://127.0.0.1:${port}`;
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const provider = new Provider(issuer, {
      clients: [
        {
          ...CLIENT,
          client_secret: CLIENT_SECRET,
          grant_types: ["authorization_code", "refresh_token"],
          redirect_uris: [CALLBACK],
        },
        { client_id: "gate way", client_secret: SECRET, grant_types: [], redirect_uris: [], response_types: [] },
      ],
      jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "rsa-1", use: "sig" }] },
      findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
      issueRefreshToken: () => true,
      features: {
        devInteractions: { enabled: true },
        dPoP: { enabled: true },
        introspection: { enabled: true },
        revocation: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => `${GATEWAY}/`,
          useGrantedResource: () => true,
          getResourceServerInfo: (_context, resource) => ({
            scope: "read",
            audience: resource,
            accessTokenFormat: "opaque",
          }),
        },
      },
    });
    const listening = provider.listen(port, "127.0.0.1");
    await new Promise((resolve) => listening.once("listening", resolve));
    scope.after(() => new Promise((resolve) => listening.close(resolve)));
    users = await startUpstream(scope);
    const discovered = await oauth.discoveryRequest(new URL(issuer), network);
    server = await oauth.processDiscoveryResponse(new URL(issuer), discovered);
    const text = policy(server.introspection_endpoint, { issuer, options: `cache_s = ${CACHE_S}` });
    edge = await startEdge(scope, { users, twin: true, vars: VARS, policy: { text } });
  });

  const network = { [oauth.allowInsecureRequests]: true };

  // Logs in at the provider, and returns the tokens; bound to the key of `handle` if there is one.
  async function logIn(login, handle) {
    const verifier = oauth.generateRandomCodeVerifier();
    const parameters = new URLSearchParams({
      ...CLIENT,
      response_type: "code",
      redirect_uri: CALLBACK,
      scope: "openid read",
      resource: `${GATEWAY}/`,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
    });
    const location = await authorize(browser(issuer), `/auth?${parameters}`, { callback: CALLBACK, login });
    const callback = oauth.validateAuthResponse(server, CLIENT, location, oauth.expectNoState);
    const secret = oauth.ClientSecretBasic(CLIENT_SECRET);
    const options = {
      ...network,
      additionalParameters: { resource: `${GATEWAY}/` },
      ...(handle && { DPoP: handle }),
    };
    const answer = await oauth.authorizationCodeGrantRequest(
      server,
      CLIENT,
      secret,
      callback,
      CALLBACK,
      verifier,
      options,
    );
    const granted = await oauth.processAuthorizationCodeResponse(server, CLIENT, answer);
    assert.ok(!granted.access_token.includes("."), "it is opaque");
    return { token: remember(granted.access_token), refresh: remember(granted.refresh_token) };
  }

  test("opens routes of its scopes, and is shown to no service", async () => {
    const { token, refresh } = await logIn("ada");
    const answer = await edge.get("/things/1", { token });
    assert.equal(answer.status, 200, answer.body);
    assert.equal(users.requests.at(-1).headers["x-user-id"], "ada");
    assert.ok(!JSON.stringify(users.requests.at(-1)).includes(token));
    assert.equal((await edge.lineOf(answer)).cache, "introspection");
    assert.equal((await edge.lineOf(await edge.get("/things/1", { token }))).cache, "token");
    // Its refresh token is active, too.
    const asked = await oauth.introspectionRequest(
      server,
      { client_id: "gate way" },
      oauth.ClientSecretBasic(SECRET),
      refresh,
      network,
    );
    assert.equal((await asked.json()).active, true);
    assert.equal(codeOf(await edge.get("/things/1", { token: refresh })), "token_type_invalid");
    assert.equal(codeOf(await edge.get("/things/1", { token: newToken() })), "token_inactive");
  });

  test("is refused after cache_s when it is revoked there (RFC 7009)", async (t) => {
    const { token } = await logIn("eve");
    assert.equal(codeOf(await edge.get("/things/1", { token })), "ok");
    const secret = oauth.ClientSecretBasic(CLIENT_SECRET);
    await oauth.processRevocationResponse(await oauth.revocationRequest(server, CLIENT, secret, token, network));
    const revoked = Date.now();
    let letInAt = revoked;
    await until("it is refused", async () => {
      const asked = Date.now();
      const code = codeOf(await edge.get("/things/1", { token }));
      if (code === "ok") letInAt = asked;
      return code === "token_inactive";
    });
    t.diagnostic(`let in ${letInAt - revoked} ms after the revocation`);
    assert.ok(letInAt - revoked <= CACHE_S * 1000, `let in ${letInAt - revoked} ms later`);
  });

  test("is refused at once after a logout, although it is active there", async () => {
    const [{ token }, { token: bystander }] = [await logIn("zoe"), await logIn("zoe")];
    for (const one of [token, bystander]) {
      assert.equal((await edge.get("/things/1", { token: one })).status, 200);
      assert.equal((await edge.twin({ path: "/things/1", token: one })).status, 200);
    }
    assert.equal((await edge.post("/logout", {}, { token })).status, 200);
    const ended = Date.now();
    assert.equal(codeOf(await edge.get("/things/1", { token })), "token_revoked");
    assert.equal((await edge.twin({ path: "/strict", token })).json.code, "token_revoked");
    await until("the other isolate refuses it", async () => {
      const asked = Date.now();
      const { status, json } = await edge.twin({ path: "/things/1", token });
      if (status === 200) assert.ok(asked - ended <= STALE_MS, `let in ${asked - ended} ms later`);
      return json.code === "token_revoked";
    });
    assert.equal((await edge.get("/things/1", { token: bystander })).status, 200);
  });

  test("that is bound to a key needs its proof", async () => {
    const keys = await dpop.generateKeyPair("ES256");
    const { token } = await logIn("kim", oauth.DPoP(CLIENT, keys));
    const send = async (scheme, key) => {
      const proof = key && (await dpop.generateProof(key, `${GATEWAY}/things/1`, "GET", undefined, token));
      const headers = { authorization: `${scheme} ${token}`, ...(proof && { dpop: proof }) };
      return codeOf(await edge.send({ path: "/things/1", headers }));
    };
    // The first asks; the others find the token in the cache.
    assert.equal(await send("Bearer"), "token_bound");
    assert.equal(await send("DPoP", keys), "ok");
    assert.equal(await send("DPoP"), "proof_missing");
    assert.equal(await send("Bearer", keys), "token_bound");
    assert.equal(await send("DPoP", await dpop.generateKeyPair("ES256")), "proof_key_mismatch");
  });
});
