// Key sets of a hostile or careless issuer, and malformed signatures: good keys verify, bad ones never do.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign as signBytes } from "node:crypto";
import { before, describe, test } from "node:test";

import { makeAssertionKey } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { b64 } from "../vectors/cases.js";

const JWKS = "GET /.well-known/jwks.json";

const scope = fileScope();

describe("key sets at the running gateway", () => {
  let auth, users, issuer, edge;

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    issuer = await createIssuer();
    edge = await startEdge(scope, { auth, users });
  });

  const me = (token) => edge.get("/api/v1/auth/me", { token });
  const passed = () => auth.requests.filter(({ path }) => path === "/api/v1/auth/me").length;

  // A new isolate that has seen only this set.
  async function publish(keys) {
    auth.answer(JWKS, { json: { keys } });
    await edge.restart();
    // Not before: the previous isolate may store its set after an answer.
    const kv = await edge.kv();
    for (const { name } of (await kv.list()).keys) await kv.delete(name);
    auth.forget();
  }

  test("unusable keys among good ones are skipped, and verify nothing", async () => {
    const weak = generateKeyPairSync("rsa", { modulusLength: 1024 });
    const other = await createIssuer();
    const weakJwk = weak.publicKey.export({ format: "jwk" });
    const good = issuer.key.jwk;
    const otherJwk = other.key.jwk;
    await publish([
      { kty: "XYZ", kid: "unknown-kind" },
      { ...weakJwk, kid: "weak", alg: "RS256", use: "sig" },
      { ...good, kid: "e-is-1", e: "AQ" },
      { ...otherJwk, kid: "for-encryption", use: "enc" },
      { ...otherJwk, kid: "private", d: "AQAB" },
      { ...otherJwk, kid: "another-algorithm", alg: "RS512" },
      { kty: "oct", kid: "secret", k: b64("a secret for everybody to read!!"), alg: "HS256" },
      null,
      good,
    ]);
    assert.equal((await me(await issuer.accessToken())).status, 200, "the good key serves");
    for (const kid of ["for-encryption", "private", "another-algorithm"]) {
      const answer = await me(await other.sign(other.claims(), { kid }));
      assert.equal(answer.status, 401, kid);
    }
    const header = { alg: "RS256", typ: "at+jwt", kid: "weak" };
    const input = `${b64(JSON.stringify(header))}.${b64(JSON.stringify(issuer.claims()))}`;
    const weakToken = `${input}.${b64(signBytes("sha256", Buffer.from(input), weak.privateKey))}`;
    assert.equal((await me(remember(weakToken))).status, 401, "weak");
    // With e = 1 a signature equals its padded digest, so anyone can forge one.
    const forged = `${b64(JSON.stringify({ ...header, kid: "e-is-1" }))}.${input.split(".")[1]}`;
    const digest = createHash("sha256").update(forged).digest();
    const info = Buffer.from("3031300d060960864801650304020105000420", "hex");
    const padding = Buffer.alloc(256 - 3 - info.length - digest.length, 0xff);
    const padded = Buffer.concat([Buffer.from([0, 1]), padding, Buffer.from([0]), info, digest]);
    assert.equal((await me(remember(`${forged}.${b64(padded)}`))).status, 401, "e = 1");
    assert.equal(passed(), 1);
    const [status] = (await edge.get("/status")).json().issuers;
    assert.deepEqual([status.keys, status.keys_passed_over], [1, 8]);
  });

  test("a usable key verifies, whatever else the set holds", async () => {
    const [first, second] = [await createIssuer(), await createIssuer()];
    const [a, b] = [first.key.jwk, second.key.jwk];
    const nameless = ({ kid, ...jwk }) => jwk;
    const named = (jwk, kid) => ({ ...jwk, kid });
    // The runtime imports the others as keys too; none of them signs here.
    const others = (count) => Array.from({ length: count }, (_, index) => named(a, `other ${index}`));
    const x5c = Array(3).fill("A".repeat(2000));
    const of = (issuer, kid) => issuer.accessToken({}, { kid });
    for (const [name, keys, token, expected] of [
      ["two of one kid, the first", [named(a, "k"), named(b, "k")], await of(first, "k"), 200],
      ["two of one kid, the second", [named(a, "k"), named(b, "k")], await of(second, "k"), 200],
      [
        "two of one kid that differ in alg",
        [{ ...named(a, "k"), alg: "PS256" }, named(b, "k")],
        await of(second, "k"),
        200,
      ],
      ["two of one kid, and signed by neither", [named(a, "k"), named(b, "k")], await of(issuer, "k"), 401],
      ["two without kid, the second", [nameless(a), nameless(b)], await of(second, undefined), 200],
      ["a token without kid, where two keys fit", [a, b], await of(second, undefined), 200],
      ["a token without kid, signed by none", [a, b], await of(issuer, undefined), 401],
      ["any kid, where one key has none", [nameless(a)], await of(first, "anything"), 200],
      ["any kid, signed by another issuer", [nameless(a)], await of(issuer, "anything"), 401],
      ["the last of 100", [...others(99), b], await of(second, b.kid), 200],
      ["one of 12 with certificates", [...others(11), b].map((jwk) => ({ ...jwk, x5c })), await of(second, b.kid), 200],
      ["one beyond those that are looked at", [...others(256), b], await of(second, b.kid), 503],
      ["the first of more than are looked at", [...others(256), b], await of(first, "other 0"), 200],
    ]) {
      await publish(keys);
      assert.equal((await me(token)).status, expected, name);
    }
    for (const bad of ["null", "7", '"key"', "[[]]", '{"kty":"RSA","kty":"EC"}']) {
      await publish([]);
      auth.answer(JWKS, { body: `{"keys":[${bad},${JSON.stringify(b)}]}` });
      assert.equal((await me(await second.accessToken())).status, 200, `with ${bad}`);
    }
    await publish([b, { kty: "XYZ", kid: "x".repeat(524_288) }]);
    assert.equal((await me(await second.accessToken())).status, 503, "a set that is too large");
  });

  test("a set of 10,000 keys, or above 512 KB, is refused and does not replace a good one", async () => {
    await publish([issuer.key.jwk]);
    const token = await issuer.accessToken();
    assert.equal((await me(token)).status, 200);
    for (const keys of [
      Array.from({ length: 10_000 }, (_, index) => ({ kty: "XYZ", kid: String(index) })),
      [issuer.key.jwk, { kty: "XYZ", kid: "x".repeat(524_288) }],
    ]) {
      auth.answer(JWKS, { json: { keys } });
      await edge.refreshedFrom(auth);
      assert.equal((await me(token)).status, 200);
    }
    assert.equal((await edge.get("/status")).json().issuers[0].last_error, "jwks_too_large");
  });

  test("a redirect is not followed", async () => {
    await publish([issuer.key.jwk]);
    const elsewhere = await startUpstream(scope);
    elsewhere.answer("GET /keys", { json: { keys: [issuer.key.jwk] } });
    auth.answer(JWKS, { status: 302, headers: { location: `${elsewhere.url}/keys` } });
    const answer = await me(await issuer.accessToken());
    assert.equal(answer.status, 503);
    assert.equal(elsewhere.requests.length, 0);
  });

  test("a removed key's token is refused as soon as the removal is seen, cached or not", async () => {
    await publish([issuer.key.jwk]);
    const token = await issuer.accessToken();
    assert.equal((await me(token)).status, 200);
    assert.equal((await edge.lineOf(await me(token))).cache, "token", "it was remembered a moment ago");
    const next = await createIssuer();
    auth.answer(JWKS, { json: next.jwks() });
    await edge.refreshedFrom(auth);
    assert.equal((await me(token)).status, 401);
    assert.equal((await me(await next.accessToken())).status, 200);
  });

  test("a known kid whose key now has another algorithm is refused with the old one", async () => {
    await publish([issuer.key.jwk]);
    const token = await issuer.accessToken();
    assert.equal((await me(token)).status, 200);
    const next = await createIssuer();
    auth.answer(JWKS, { json: { keys: [{ ...issuer.key.jwk, alg: "PS256" }, next.key.jwk] } });
    await edge.refreshedFrom(auth);
    assert.equal((await me(token)).status, 401);
  });
});

describe("signatures on curves at the running gateway", () => {
  const policy = {
    text: `
[issuers.curves]
issuer = "curves"
audience = ["api"]
algorithms = ["ES256", "EdDSA"]
jwks_upstream = "shop"
jwks_path = "/jwks"

[upstreams.shop]
url = "http://127.0.0.1:1"

[[routes]]
path = "/x"
methods = ["GET"]
upstream = "shop"
access = "user"
`,
  };
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "curves", aud: "api", sub: "u1", iat: now, exp: now + 600 };
  const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
  const ed = generateKeyPairSync("ed25519");
  const jwk = (pair, kid) => ({ ...pair.publicKey.export({ format: "jwk" }), kid, use: "sig" });
  // A point of order one: for it, R = identity and S = 0 "sign" every message.
  const smallOrder = { kty: "OKP", crv: "Ed25519", x: b64(Buffer.concat([Buffer.from([1]), Buffer.alloc(31)])) };
  // Not on the curve: y belongs to another point.
  const offCurve = { ...jwk(p256, "off-curve"), y: jwk(generateKeyPairSync("ec", { namedCurve: "P-256" }), "").y };

  let edge;

  before(async () => {
    const shop = await startUpstream(scope);
    const keys = [jwk(p256, "p256"), jwk(p384, "p384"), jwk(ed, "ed"), { ...smallOrder, kid: "small" }, offCurve];
    shop.answer("GET /jwks", { json: { keys } });
    edge = await startEdge(scope, {
      policy,
      vars: { UPSTREAM_SHOP_URL: shop.url, ASSERTION_KEYS_SHOP: makeAssertionKey() },
    });
  });

  function token(alg, kid, sign) {
    const input = `${b64(JSON.stringify({ alg, kid }))}.${b64(JSON.stringify(claims))}`;
    return remember(`${input}.${b64(sign(Buffer.from(input)))}`);
  }

  const ecdsa = (pair, hash, dsaEncoding) => (input) => signBytes(hash, input, { key: pair.privateKey, dsaEncoding });
  const raw = ecdsa(p256, "sha256", "ieee-p1363");
  const identity = Buffer.concat([Buffer.from([1]), Buffer.alloc(63)]);

  for (const [name, makeToken, expected] of [
    ["a good ES256 signature", () => token("ES256", "p256", raw), 200],
    ["a good Ed25519 signature", () => token("EdDSA", "ed", (input) => signBytes(null, input, ed.privateKey)), 200],
    ["ES256 in DER", () => token("ES256", "p256", ecdsa(p256, "sha256", "der")), 401],
    ["ES256 of zeros", () => token("ES256", "p256", () => Buffer.alloc(64)), 401],
    [
      "ES256 with a byte more",
      () => token("ES256", "p256", (input) => Buffer.concat([raw(input), Buffer.alloc(1)])),
      401,
    ],
    ["ES256 named for a key on another curve", () => token("ES256", "p384", ecdsa(p384, "sha256", "ieee-p1363")), 401],
    ["ES256 under a key that is not on its curve", () => token("ES256", "off-curve", raw), 401],
    ["Ed25519 under a key of small order", () => token("EdDSA", "small", () => identity), 401],
    ["Ed25519 of zeros", () => token("EdDSA", "ed", () => Buffer.alloc(64)), 401],
    [
      "Ed25519 a byte short",
      () => token("EdDSA", "ed", (input) => signBytes(null, input, ed.privateKey).subarray(1)),
      401,
    ],
    ["Ed25519 of no bytes but one", () => token("EdDSA", "ed", () => Buffer.alloc(1)), 401],
  ])
    test(`${name} is ${expected}`, async () => {
      const answer = await edge.get("/x", { token: makeToken() });
      assert.equal(answer.status, expected, answer.body);
    });
});
