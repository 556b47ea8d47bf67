// Assertions with a public key as services check them: jose reads the keys from the running gateway, and PyJWT verifies
// the same assertions.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { Readable } from "node:stream";
import { before, describe, test } from "node:test";

import { SignJWT, createRemoteJWKSet, jwtVerify } from "jose";

import { makeAssertionKey } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { noPython, python } from "../harness/python.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const PLACE = "/_gateway/jwks.json";

const policy = `
[issuers.id]
issuer = "auth-service"
audience = ["api"]
algorithms = ["RS256"]
jwks_upstream = "auth"
jwks_path = "/.well-known/jwks.json"

[upstreams.auth]
url = "http://127.0.0.1:1"
assertion = { algorithm = "EdDSA", content_digest = true }

[upstreams.users]
url = "http://127.0.0.1:2"
assertion = { algorithm = "ES256", claims = ["tenant", "https://example.com/org"] }

[[routes]]
path = "/auth"
methods = ["GET", "POST"]
upstream = "auth"
access = "public"

[[routes]]
path = "/{*rest}"
methods = ["GET", "POST"]
upstream = "users"
access = "user"
request_headers = { set = { x-tenant = { claim = "tenant" } } }
`;

const KINDS = { ES256: ["ec", { namedCurve: "P-256" }], EdDSA: ["ed25519", {}] };

// A private key as the command in docs/assertion.md makes it.
function makeKey(algorithm, kid) {
  const jwk = generateKeyPairSync(...KINDS[algorithm]).privateKey.export({ format: "jwk" });
  remember(jwk.d);
  return { kid, ...jwk };
}

const secretOf = (...keys) => JSON.stringify({ keys });

describe("an assertion with a public key", () => {
  let auth, users, edge, issuer;
  const old = makeKey("ES256", "2026-10");
  const next = makeKey("ES256", "2026-11");
  const ed = makeKey("EdDSA", "ed-1");

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    issuer = (await createIssuer()).publishOn(auth);
    edge = await startEdge(scope, {
      auth,
      users,
      policy: { text: policy },
      vars: { ASSERTION_KEYS_USERS: secretOf(old), ASSERTION_KEYS_AUTH: secretOf(ed) },
    });
  });

  const keySet = () => createRemoteJWKSet(new URL(`${edge.url}${PLACE}`));

  async function assertionOf(path, upstream, { headers, ...claims } = {}) {
    const token = await issuer.accessToken({ sub: "ada", ...claims });
    const answer = await edge.get(path, { token, headers });
    assert.equal(answer.status, 200, answer.body);
    return upstream.requests.at(-1).assertion;
  }

  const check = (assertion, keys, audience, algorithms) =>
    jwtVerify(assertion, keys, { typ: "gateway+jwt", issuer: "portcullis", audience, algorithms });

  test("verifies in jose with the keys of the running gateway", async () => {
    const keys = keySet();
    const es = await check(await assertionOf("/orders?page=2", users), keys, "users", ["ES256"]);
    assert.deepEqual(es.protectedHeader, { alg: "ES256", kid: "2026-10", typ: "gateway+jwt" });
    assert.equal(es.payload.sub, "ada");
    assert.equal(es.payload.htu, "/orders?page=2");
    const eddsa = await check(await assertionOf("/auth", auth), keys, "auth", ["EdDSA"]);
    assert.deepEqual(eddsa.protectedHeader, { alg: "EdDSA", kid: "ed-1", typ: "gateway+jwt" });
  });

  test("verifies in PyJWT", { skip: noPython }, async () => {
    const jwks = (await edge.get(PLACE)).json();
    const tokens = { es: await assertionOf("/orders", users), ed: await assertionOf("/auth", auth) };
    tokens.other = `${tokens.es.slice(0, -8)}AAAAAAAA`;
    const wanted = {
      jwks,
      tokens,
      algorithms: ["ES256", "EdDSA"],
      audience: ["users", "auth"],
      issuer: "portcullis",
      require: ["exp", "iat", "aud", "jti"],
    };
    const verdicts = python("verify", wanted);
    assert.equal(verdicts.es.sub, "ada");
    assert.equal(verdicts.ed.aud, "auth");
    assert.equal(verdicts.other, "InvalidSignatureError");
  });

  test("has the issuer and the named claims of the token, and headers have them encoded", async () => {
    const keys = keySet();
    const org = { id: 7, units: ["Größe", 'a"b\r\n'] };
    const claims = {
      tenant: "shop\r\nx-user-id: root \u{1F600}",
      "https://example.com/org": org,
      aud: ["api", "users"],
    };
    const headers = { "x-tenant": "forged", x_tenant: "forged" };
    const { payload } = await check(await assertionOf("/orders", users, { ...claims, headers }), keys, "users", [
      "ES256",
    ]);
    assert.deepEqual(payload.claims, { iss: "auth-service", tenant: claims.tenant, "https://example.com/org": org });
    assert.deepEqual([payload.iss, payload.aud, payload.sub], ["portcullis", "users", "ada"]);
    const seen = users.requests.at(-1).headers;
    assert.equal(seen["x-tenant"], "shop%0D%0Ax-user-id: root %F0%9F%98%80");
    assert.equal(seen["x-user-id"], "ada");
    assert.ok(!JSON.stringify(seen).includes("forged"));
    await assertionOf("/orders", users, { tenant: ["shop"], headers });
    assert.ok(!("x-tenant" in users.requests.at(-1).headers) && !("x_tenant" in users.requests.at(-1).headers));
    const token = await issuer.accessToken({ sub: "ada", tenant: "t".repeat(5_000) });
    const refused = await edge.get("/orders", { token });
    assert.equal(refused.status, 403);
    assert.equal(refused.json().code, "claims_too_large");
  });

  test("has the digest of the body that the service gets", async () => {
    const keys = keySet();
    const post = (body, headers = {}) =>
      edge.send({ method: "POST", path: "/auth", body, headers: { "content-digest": "sha-256=:AAAA:", ...headers } });
    for (const [body, headers] of [
      ["hello", {}],
      ["b".repeat(65_536), {}],
      ["b".repeat(60_000), { "transfer-encoding": "chunked" }],
      ["", {}],
      ['{"name": "Größe"}', { "content-type": "application/json" }],
    ]) {
      const answer = await post(body, headers);
      assert.equal(answer.status, 200, answer.body);
      const seen = auth.requests.at(-1);
      assert.equal(seen.body, body);
      const digest = `sha-256=:${createHash("sha256").update(seen.body).digest("base64")}:`;
      assert.equal(seen.headers["content-digest"], digest);
      const { payload } = await check(seen.assertion, keys, "auth", ["EdDSA"]);
      assert.equal(payload.content_digest, digest);
    }
    const empty = await check(await assertionOf("/auth", auth), keys, "auth", ["EdDSA"]);
    assert.equal(empty.payload.content_digest, `sha-256=:${createHash("sha256").digest("base64")}:`);
    const before = auth.requests.length;
    for (const headers of [{}, { "transfer-encoding": "chunked" }]) {
      const answer = await post("b".repeat(65_537), headers);
      assert.deepEqual([answer.status, answer.json().code], [413, "body_too_large"]);
    }
    // Of a longer one, the client reads the answer while the gateway discards the rest.
    for (const size of [1, 4]) {
      const parts = Array.from({ length: size * 16 }, () => "b".repeat(65_536));
      const answer = await post(Readable.from(parts));
      assert.deepEqual([answer.status, answer.json().code], [413, "body_too_large"], `${size} MiB in chunks`);
    }
    assert.equal(auth.requests.length, before, "nothing was forwarded");
  });

  test("has its public keys where everyone may read and keep them, and no private member", async () => {
    const answer = await edge.get(PLACE);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers["content-type"], "application/jwk-set+json");
    assert.equal(answer.headers["cache-control"], "public, max-age=300");
    const { keys } = answer.json();
    assert.deepEqual(
      keys.map((key) => Object.keys(key).sort()),
      [
        ["alg", "crv", "kid", "kty", "use", "x"],
        ["alg", "crv", "kid", "kty", "use", "x", "y"],
      ],
    );
    for (const { d } of [old, next, ed]) assert.ok(!answer.body.includes(d) && !edge.output.includes(d));
  });

  test("is of no use to anyone who turns the public key into a secret, or renames the algorithm", async () => {
    const keys = keySet();
    const assertion = await assertionOf("/orders", users);
    const [, claims, signature] = assertion.split(".");
    const header = (changes) => {
      const all = { alg: "ES256", kid: "2026-10", typ: "gateway+jwt", ...changes };
      return Buffer.from(JSON.stringify(all)).toString("base64url");
    };
    const { payload } = await check(assertion, keys, "users", ["ES256"]);
    const jwks = (await edge.get(PLACE)).body;
    const byPublicKey = await new SignJWT(payload)
      .setProtectedHeader({ alg: "HS256", kid: "2026-10", typ: "gateway+jwt" })
      .sign(Buffer.from(jwks));
    const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const byStranger = await new SignJWT(payload)
      .setProtectedHeader({
        alg: "ES256",
        kid: "2026-10",
        typ: "gateway+jwt",
        jwk: own.publicKey.export({ format: "jwk" }),
      })
      .sign(own.privateKey);
    for (const [what, forged] of Object.entries({
      "HS256 by the public key": byPublicKey,
      "a stranger's key in the header": byStranger,
      none: `${header({ alg: "none" })}.${claims}.`,
      EdDSA: `${header({ alg: "EdDSA" })}.${claims}.${signature}`,
      "the key of another upstream": `${header({ kid: "ed-1" })}.${claims}.${signature}`,
      "another type": `${header({ typ: "at+jwt" })}.${claims}.${signature}`,
    })) {
      await assert.rejects(check(forged, keys, "users", ["ES256"]), what);
      // A client cannot send one to the gateway either, as a token or as the assertion.
      assert.equal((await edge.get("/orders", { token: forged })).status, 401, what);
    }
    // An assertion of one service is of no use at another, and a client's token is no assertion.
    await assert.rejects(check(assertion, keys, "auth", ["ES256"]));
    await assert.rejects(check(await issuer.accessToken({ sub: "ada" }), keys, "users", ["ES256", "EdDSA", "RS256"]));
    assert.equal((await edge.get("/orders", { token: assertion })).status, 401);
  });

  test("is accepted at each step of a rotation", async () => {
    for (const [step, secret, kid] of [
      ["the next key is published", secretOf(old, next), "2026-10"],
      ["the next key signs", secretOf(next, old), "2026-11"],
      ["the old key is removed", secretOf(next), "2026-11"],
    ]) {
      const before = await assertionOf("/orders", users);
      await edge.restart({ vars: { ASSERTION_KEYS_USERS: secret } });
      const { protectedHeader } = await check(await assertionOf("/orders", users), keySet(), "users", ["ES256"]);
      assert.equal(protectedHeader.kid, kid, step);
      // An assertion that was on its way.
      if (step !== "the old key is removed") await check(before, keySet(), "users", ["ES256"]);
    }
  });

  const refusedAtStart = { skip: onlyOnPlatform("serve does not start with such secrets") };

  test("is missing for the gateway's own fault only, as 503", refusedAtStart, async () => {
    const crossed = { ...makeKey("ES256", "crossed"), d: next.d };
    for (const [what, secret] of Object.entries({
      "a key whose parts do not belong together": secretOf(crossed),
      "a private part beyond the curve's order": secretOf({ ...next, d: Buffer.alloc(32, 0xff).toString("base64url") }),
      "a private part of zero": secretOf({ ...next, d: Buffer.alloc(32).toString("base64url") }),
      "a shared secret": makeAssertionKey(),
    })) {
      await edge.restart({ vars: { ASSERTION_KEYS_USERS: secret } });
      const answer = await edge.get("/orders", { token: await issuer.accessToken({ sub: "ada" }) });
      assert.equal(answer.status, 503, `${what}: ${answer.body}`);
      assert.ok(["gateway_misconfigured", "assertion_unavailable"].includes(answer.json().code), answer.body);
      assert.equal(answer.headers["retry-after"], "5");
      assert.equal((await edge.get("/ready")).status, 503, what);
    }
    for (const { d } of [crossed, next]) assert.ok(!edge.output.includes(d));
  });
});
