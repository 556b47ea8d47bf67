// Tokens in the header of a proxy in front of the gateway, and keys in the policy. The table of
// tests/native/token_sources.rs has more attacks; here they pass a real HTTP server.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { readAssertion } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const HEADER = "Cf-Access-Jwt-Assertion";
const TEAM = "https://shop.cloudflareaccess.com";

const policy = (keys) => `
[issuers.access]
provider = "cloudflare-access"
issuer = "${TEAM}"
audience = ["app"]
jwks = { keys = [${keys.map(({ kty, n, e, kid, alg }) => `{ kty = "${kty}", n = "${n}", e = "${e}", kid = "${kid}", alg = "${alg}" }`)}] }

[issuers.own]
issuer = "own"
audience = ["api"]
algorithms = ["ES256"]
jwks_file = "own.json"

[upstreams.users]
url = "http://127.0.0.1:1"

[[routes]]
path = "/both"
methods = ["GET", "POST"]
upstream = "users"
access = "user"

[[routes]]
path = "/access"
methods = ["GET"]
upstream = "users"
access = "user"
issuers = ["access"]

[[routes]]
path = "/own"
methods = ["GET"]
upstream = "users"
access = "user"
issuers = ["own"]

[[routes]]
path = "/open"
methods = ["GET"]
upstream = "users"
access = "public"
`;

describe("a token in the header of a proxy", () => {
  let access, own, users, edge, token, ownToken;

  before(async () => {
    access = await createIssuer({ name: TEAM, audience: ["app"] });
    own = await createIssuer({ name: "own", algorithm: "ES256" });
    users = await startUpstream(scope);
    const text = policy(access.jwks().keys);
    edge = await startEdge(scope, { users, policy: { text, files: { "own.json": JSON.stringify(own.jwks()) } } });
    token = await access.accessToken({ sub: "ada", type: "app" });
    ownToken = await own.accessToken({ sub: "bob" });
  });

  const codeOf = ({ status, body }) => (status === 200 ? "ok" : JSON.parse(body).code);
  const get = (path, headers) => edge.send({ path, headers });

  test("is accepted with keys of the policy, and reaches no service", async () => {
    for (const headers of [
      [[HEADER, token]],
      // A client cannot have the header removed before it is checked, nor what the gateway adds.
      [
        [HEADER, token],
        ["Connection", "cf-access-jwt-assertion, x-user-id"],
      ],
    ]) {
      const answer = await get("/access", headers);
      assert.equal(answer.status, 200, answer.body);
      assert.match(String(answer.headers.vary), /cf-access-jwt-assertion/);
      assert.match(answer.headers["cache-control"], /private/);
      const { headers: seen, assertion } = users.requests.at(-1);
      assert.equal(seen["x-user-id"], "ada");
      assert.ok(!JSON.stringify(seen).includes(token));
      const { claims } = await readAssertion(assertion, edge.assertionKeys.users, "users");
      assert.equal(claims.sub, "ada");
    }
    assert.equal(codeOf(await edge.get("/own", { token: ownToken })), "ok");
    assert.equal(users.requests.at(-1).headers["x-user-id"], "bob");
  });

  test("is refused in any other place and with any other token", async () => {
    const bearer = ["Authorization", `Bearer ${token}`];
    const ownBearer = ["Authorization", `Bearer ${ownToken}`];
    const expired = await access.accessToken({ type: "app", iat: 1_700_000_000, exp: 1_700_000_900 });
    const stranger = await createIssuer({ name: TEAM, audience: ["app"] });
    const forged = await stranger.sign(stranger.claims({ type: "app" }), { kid: access.key.kid });
    const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${token.split(".")[1]}.eA`;
    for (const [attack, path, headers, expected] of [
      ["two different tokens", "/both", [[HEADER, token], ownBearer], "credentials_ambiguous"],
      ["the same token twice", "/both", [[HEADER, token], bearer], "credentials_ambiguous"],
      ["moved to Authorization", "/both", [bearer], "token_source_invalid"],
      ["moved to Authorization of its own route", "/access", [bearer], "credentials_missing"],
      ["of another issuer", "/both", [[HEADER, ownToken]], "token_source_invalid"],
      ["on a route that does not use the header", "/own", [[HEADER, token]], "credentials_missing"],
      ["in another spelling", "/both", [["Cf_Access_Jwt_Assertion", token]], "credentials_missing"],
      [
        "in two lines",
        "/both",
        [
          [HEADER, token],
          [HEADER, token],
        ],
        "credentials_malformed",
      ],
      ["joined by a comma", "/both", [[HEADER, `${token},${token}`]], "credentials_malformed"],
      ["empty", "/both", [[HEADER, ""]], "credentials_malformed"],
      ["with a scheme", "/both", [[HEADER, `Bearer ${token}`]], "credentials_malformed"],
      ["too long", "/both", [[HEADER, "a".repeat(16 * 1024 + 1)]], "token_too_large"],
      ["expired", "/both", [[HEADER, expired]], "token_expired"],
      ["by a stranger's key", "/both", [[HEADER, forged]], "token_signature_invalid"],
      ["with alg none", "/both", [[HEADER, none]], "token_algorithm_not_allowed"],
      ["in a query", `/both?${HEADER}=${token}`, [], "credentials_missing"],
    ]) {
      users.forget();
      const answer = await get(path, headers);
      assert.equal(codeOf(answer), expected, attack);
      assert.equal(answer.status, 401, attack);
      const isOfRequest = ["credentials_ambiguous", "credentials_malformed"].includes(expected);
      const error = isOfRequest ? "invalid_request" : expected === "credentials_missing" ? undefined : "invalid_token";
      const [, said] = /^Bearer realm="portcullis"(?:, error="(\w+)"|$)/.exec(answer.headers["www-authenticate"]);
      assert.equal(said, error, attack);
      assert.equal(users.requests.length, 0, attack);
    }
  });

  test("of a page of another site is refused", async () => {
    const post = (headers) => edge.send({ method: "POST", path: "/both", headers: { [HEADER]: token, ...headers } });
    assert.equal(codeOf(await post({})), "ok");
    assert.equal(codeOf(await post({ "sec-fetch-site": "same-origin" })), "ok");
    assert.equal(codeOf(await post({ "sec-fetch-site": "cross-site" })), "cross_site");
    assert.equal(codeOf(await post({ origin: "https://evil.example" })), "cross_site");
  });

  test("is removed on public routes, also from the cookie of Access", async () => {
    const cookie = ["Cookie", `a=1; CF_Authorization=${token}`];
    assert.equal((await get("/open", [[HEADER, token], cookie])).status, 200);
    assert.equal(users.requests.at(-1).headers.cookie, "a=1");
    assert.ok(!JSON.stringify(users.requests.at(-1).headers).includes(token));
  });

  test("needs no fetch and no store for its keys, and /status says so", async () => {
    const { issuers } = (await edge.get("/status")).json();
    assert.deepEqual(
      issuers.map(({ name, key_source, keys, keys_age_s }) => [name, key_source, keys, keys_age_s]),
      [
        ["access", "policy", 1, null],
        ["own", "policy", 1, null],
      ],
    );
    assert.equal((await edge.get("/ready")).status, 200);
    assert.deepEqual((await (await edge.kv()).list()).keys, []);
  });
});
