// Logout at an OpenID provider (oidc-provider), and security events (RFC 8417, RFC 8935) that jose signs, end the
// access of tokens at the gateway in every isolate.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";

import { SignJWT, importJWK } from "jose";
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

const API = "https://api.example";
const LOGOUT = "/_gateway/logout/provider";
const EVENTS = "/_gateway/events/provider";
const CALLBACK = "http://127.0.0.1:9/callback";
const SECRET = "Bearer the transmitter's secret";

const policy = (issuer) => `
[issuers.provider]
issuer = "${issuer}"
audience = ["${API}"]
algorithms = ["RS256"]
discovery = true
logout = { audience = ["web", "app"] }
events = { audience = ["https://sp.example.com/caep"], authorization = true }

[upstreams.users]
url = "http://127.0.0.1:1"

[upstreams.auth]
url = "http://127.0.0.1:2"

[[routes]]
path = "/me"
methods = ["GET"]
upstream = "users"
access = "user"
`;

const client = (edgeUrl, id, needsSession) => ({
  client_id: id,
  token_endpoint_auth_method: "none",
  redirect_uris: [CALLBACK],
  backchannel_logout_uri: `${edgeUrl()}${LOGOUT}`,
  backchannel_logout_session_required: needsSession,
});

describe("logout at an OpenID provider", () => {
  let provider, issuer, edge, key;
  const outcomes = [];

  before(async () => {
    const port = await probePort(0);
    issuer = `http://127.0.0.1:${port}`;
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    key = { ...privateKey.export({ format: "jwk" }), kid: "rsa-1", use: "sig", alg: "RS256" };
    const users = await startUpstream(scope);
    edge = await startEdge(scope, {
      users,
      auth: users,
      twin: true,
      policy: { text: policy(issuer) },
      vars: { EVENTS_AUTHORIZATION_PROVIDER: SECRET },
    });
    const edgeUrl = () => edge.url;
    provider = new Provider(issuer, {
      clients: [client(edgeUrl, "web", true), client(edgeUrl, "app", false)],
      jwks: { keys: [key] },
      pkce: { required: () => true },
      findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
      // As Keycloak does; oidc-provider leaves sid out of access tokens by default.
      extraTokenClaims: async (_context, token) => {
        if (token.clientId !== "web") return undefined;
        const session = await provider.Session.findByUid(token.sessionUid);
        return session && { sid: session.sidFor(token.clientId) };
      },
      features: {
        backchannelLogout: { enabled: true },
        devInteractions: { enabled: true },
        resourceIndicators: {
          enabled: true,
          defaultResource: () => API,
          useGrantedResource: () => true,
          getResourceServerInfo: () => ({ scope: "read", audience: API, accessTokenFormat: "jwt" }),
        },
        rpInitiatedLogout: { enabled: true },
      },
      // Without the provider's dispatcher, which refuses loopback addresses.
      fetch: (url, { method, headers, body, redirect }) => fetch(url, { method, headers, body, redirect }),
    });
    provider.on("backchannel.success", (_context, { clientId }) => outcomes.push([clientId, "success"]));
    provider.on("backchannel.error", (_context, error, { clientId }) => outcomes.push([clientId, error.message]));
    const server = provider.listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    scope.after(() => new Promise((resolve) => server.close(resolve)));
  });

  // Logs in at the provider, and returns the access token.
  async function logIn(visit, clientId, login) {
    const verifier = randomBytes(32).toString("base64url");
    const parameters = new URLSearchParams({
      client_id: clientId,
      response_type: "code",
      redirect_uri: CALLBACK,
      scope: "openid read",
      resource: API,
      code_challenge: createHash("sha256").update(verifier).digest("base64url"),
      code_challenge_method: "S256",
    });
    const location = await authorize(visit, `/auth?${parameters}`, { callback: CALLBACK, login });
    const answer = await fetch(`${issuer}/token`, {
      method: "POST",
      body: new URLSearchParams({
        grant_type: "authorization_code",
        client_id: clientId,
        code: location.searchParams.get("code"),
        redirect_uri: CALLBACK,
        code_verifier: verifier,
        resource: API,
      }),
    });
    const body = await answer.json();
    assert.equal(answer.status, 200, JSON.stringify(body));
    return remember(body.access_token);
  }

  async function logOut(visit) {
    const page = await visit("/session/end");
    const xsrf = /name="xsrf" value="([^"]+)"/.exec(page.text)[1];
    return visit("/session/end/confirm", { form: { xsrf, logout: "yes" } });
  }

  const claimsOf = (token) => JSON.parse(Buffer.from(token.split(".")[1], "base64url").toString());

  for (const [clientId, what] of [
    ["web", "by the session of its tokens"],
    ["app", "by the user, because its tokens name no session"],
  ]) {
    test(`ends access in every isolate, ${what}`, async (t) => {
      const [ada, eve] = [browser(issuer), browser(issuer)];
      const token = await logIn(ada, clientId, `ada-${clientId}`);
      const bystander = await logIn(eve, clientId, `eve-${clientId}`);
      assert.equal(claimsOf(token).sid !== undefined, clientId === "web");
      for (const one of [token, bystander]) {
        assert.equal((await edge.get("/me", { token: one })).status, 200);
        assert.equal((await edge.twin({ path: "/me", token: one })).status, 200);
      }
      outcomes.length = 0;
      assert.equal((await logOut(ada)).status, 303);
      assert.deepEqual(outcomes, [[clientId, "success"]]);
      const ended = Date.now();
      const refused = await edge.get("/me", { token });
      assert.deepEqual([refused.status, refused.json().code], [401, "token_revoked"]);
      let letInAt = ended;
      await until("the other isolate refuses it", async () => {
        const asked = Date.now();
        const { status } = await edge.twin({ path: "/me", token });
        if (status === 200) letInAt = asked;
        return status === 401;
      });
      t.diagnostic(`refused by the other isolate ${Date.now() - ended} ms after the logout`);
      assert.ok(letInAt - ended <= STALE_MS, `let in ${letInAt - ended} ms later`);
      assert.equal((await edge.get("/me", { token: bystander })).status, 200);
      assert.equal((await edge.twin({ path: "/me", token: bystander })).status, 200);
      // The next login is another session.
      await until("the next second", async () => Math.floor(Date.now() / 1000) > Math.floor(ended / 1000));
      const next = await logIn(ada, clientId, `ada-${clientId}`);
      assert.equal((await edge.get("/me", { token: next })).status, 200);
    });
  }

  const sign = async (claims, header) => {
    const all = { alg: "RS256", kid: "rsa-1", typ: "secevent+jwt", ...header };
    return remember(await new SignJWT(claims).setProtectedHeader(all).sign(await importJWK(key, "RS256")));
  };
  const push = (body, headers = {}) =>
    edge.send({
      method: "POST",
      path: EVENTS,
      headers: { "content-type": "application/secevent+jwt", authorization: SECRET, ...headers },
      body,
    });
  const now = () => Math.floor(Date.now() / 1000);

  test("the examples of CAEP 1.0 end what they are about", async () => {
    const type = (name) => `https://schemas.openid.net/secevent/caep/event-type/${name}`;
    const envelope = { jti: "24c63fb56e5a2d77a6b512616ca9fa24", aud: "https://sp.example.com/caep", txn: 8675309 };
    const session = { format: "opaque", id: "dMTlD|1600802906337.16|16008.16" };
    const user = (sub) => ({ format: "iss_sub", iss: issuer, sub });
    const tenant = { format: "opaque", id: "123456789" };
    const reasons = { initiating_entity: "policy", reason_admin: { en: "Landspeed Policy Violation: C076E82F" } };
    for (const [name, subject, events, claims] of [
      ["a session", session, { [type("session-revoked")]: { event_timestamp: 1615304991643 } }, { sid: session.id }],
      [
        "a session of a user of a tenant",
        { format: "complex", session, user: user("99beb27c"), tenant },
        { [type("session-revoked")]: { ...reasons, event_timestamp: 1615304991643 } },
        { sub: "99beb27c", sid: session.id },
      ],
      [
        "a user with a device",
        { format: "complex", user: user("jane.smith@example.com"), device: user("e9297990"), tenant },
        { [type("session-revoked")]: reasons },
        { sub: "jane.smith@example.com", sid: "another" },
      ],
      [
        "a credential",
        user("jane.roe@example.com"),
        { [type("credential-change")]: { ...reasons, credential_type: "password", change_type: "update" } },
        { sub: "jane.roe@example.com" },
      ],
    ]) {
      const iat = now();
      const access = { iss: issuer, aud: API, iat, exp: iat + 600, sub: `a-${name}`, ...claims };
      const token = await sign(access, { typ: "at+jwt" });
      const other = await sign({ ...access, sub: "x", sid: "y" }, { typ: "at+jwt" });
      const event = await sign({ iss: issuer, iat, ...envelope, sub_id: subject, events });
      // Tokens of the last example's session are revoked until its `iat` and the leeway.
      if (name !== "a session of a user of a tenant") {
        assert.equal((await edge.get("/me", { token })).status, 200, name);
      }
      const answer = await push(event);
      assert.deepEqual([answer.status, answer.body], [202, ""], name);
      assert.equal(answer.headers["cache-control"], "no-store");
      assert.equal((await edge.get("/me", { token })).status, 401, name);
      assert.equal((await edge.get("/me", { token: other })).status, 200, name);
      await until("the other isolate refuses it", async () => (await edge.twin({ path: "/me", token })).status === 401);
    }
    const line = edge.lines.find((line) => line.event_type === "gateway.security_event" && line.result === "success");
    assert.equal(line.detail, "session_revoked");
  });

  test("a verification event is accepted", async () => {
    const events = {
      "https://schemas.openid.net/secevent/ssf/event-type/verification": { state: "VGhpcyBpcyBhbiBleG" },
    };
    const sub_id = { format: "opaque", id: "f67e39a0a4d34d56b3aa1bc4cff0069f" };
    const claims = { iss: issuer, iat: now(), jti: "v1", aud: "https://sp.example.com/caep", sub_id, events };
    assert.equal((await push(await sign(claims))).status, 202);
  });

  test("refusals have the members of their specifications", async () => {
    const claims = { iss: issuer, iat: now(), jti: "e1", aud: "https://sp.example.com/caep", sub_id: {}, events: {} };
    for (const [body, headers, err] of [
      [await sign({ ...claims, aud: "https://other.example" }), {}, "invalid_audience"],
      [await sign({ ...claims, iss: "https://other.example" }), {}, "invalid_issuer"],
      [await sign(claims, { kid: "unknown" }), {}, "invalid_key"],
      [await sign(claims), {}, "invalid_request"],
      [await sign(claims), { "content-type": "application/json" }, "invalid_request"],
      [await sign(claims), { authorization: "Bearer a stranger's" }, "authentication_failed"],
    ]) {
      const answer = await push(body, headers);
      assert.deepEqual([answer.status, answer.json().err], [400, err]);
      assert.equal(answer.headers["content-type"], "application/json");
      assert.equal(answer.headers["content-language"], "en");
    }
    const post = (body) =>
      edge.send({
        method: "POST",
        path: LOGOUT,
        headers: { "content-type": "application/x-www-form-urlencoded", accept: "text/html" },
        body,
      });
    const logout = { "http://schemas.openid.net/event/backchannel-logout": {} };
    const token = await sign({ ...claims, aud: "web", sub: "u", events: logout, nonce: "n" }, { typ: "logout+jwt" });
    const answer = await post(`logout_token=${token}`);
    assert.deepEqual([answer.status, answer.json().error], [400, "invalid_request"]);
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.equal(answer.json().code, "event_claim_prohibited");
    const large = await post(`logout_token=${"a".repeat(64 * 1024)}`);
    assert.deepEqual([large.status], [413]);
    assert.equal((await edge.get(LOGOUT)).status, 405);
  });

  test("a logout token is no access token, and an access token no logout token", async () => {
    const logout = { "http://schemas.openid.net/event/backchannel-logout": {} };
    const claims = { iss: issuer, aud: ["web", API], sub: "u1", iat: now(), exp: now() + 100, jti: "l1" };
    const send = (token) =>
      edge.send({
        method: "POST",
        path: LOGOUT,
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: `logout_token=${token}`,
      });
    const access = await sign(claims, { typ: "JWT" });
    const event = await sign({ ...claims, events: logout }, { typ: "JWT" });
    const passed = await edge.get("/me", { token: access });
    const refused = await edge.get("/me", { token: event });
    assert.deepEqual([passed.status, refused.status, refused.json().code], [200, 401, "token_type_invalid"]);
    assert.deepEqual([(await send(access)).status, (await send(access)).json().code], [400, "event_missing"]);
    assert.equal((await send(event)).status, 200);
    assert.equal((await edge.get("/me", { token: access })).status, 401);
  });
});
