// A policy with two issuers, each checked by its own rules only, path rests, all and any.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { makeAssertionKey } from "../harness/assertion.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const PARTNER = "https://id.partner.example/";

const scope = fileScope();

describe("another policy", () => {
  let auth, partnerSite, shop, own, partner, edge;

  before(async () => {
    auth = await startUpstream(scope);
    partnerSite = await startUpstream(scope);
    shop = await startUpstream(scope);
    own = (await createIssuer()).publishOn(auth, "/keys?set=1");
    partner = (await createIssuer({ name: PARTNER, audience: "shop", algorithm: "ES256" })).publishOn(
      partnerSite,
      "/jwks",
    );
    edge = await startEdge(scope, {
      auth,
      policy: "shop",
      vars: {
        UPSTREAM_SHOP_URL: shop.url,
        UPSTREAM_PARTNER_URL: partnerSite.url,
        ASSERTION_KEYS_SHOP: makeAssertionKey(),
        ASSERTION_KEYS_PARTNER: makeAssertionKey(),
      },
    });
  });

  const statusOf = async (path, token, method = "GET") => {
    shop.forget();
    const { status } = await edge.send({
      method,
      path,
      headers: token === undefined ? {} : { authorization: `Bearer ${token}` },
    });
    assert.equal(shop.requests.length, status === 200 ? 1 : 0, `${method} ${path}: ${status}`);
    return status;
  };

  // A token of the partner, with its own claim names.
  const partnerToken = (changes = {}, header = {}) =>
    partner.accessToken(
      {
        sub: "pairwise-1",
        oid: "grace",
        roles: ["not these"],
        realm_access: { roles: ["user"] },
        azp: "shop-web",
        token_type: undefined,
        ...changes,
      },
      { typ: "JWT", ...header },
    );

  test("a token of either issuer opens the routes that its user may enter", async () => {
    const mine = await own.accessToken({ sub: "ada" });
    const theirs = await partnerToken();
    for (const [path, token, expected] of [
      ["/", undefined, 200],
      ["/files/a/b", undefined, 401],
      ["/files/a/b", mine, 200],
      ["/files/a/b", theirs, 200],
      ["/files", mine, 404],
      ["/orders/ada", mine, 200],
      ["/orders/grace", theirs, 200],
      ["/orders/ada", theirs, 403],
      ["/orders/grace", mine, 403],
      ["/api/v1/users/ada", mine, 404],
    ])
      assert.equal(await statusOf(path, token), expected, path);
  });

  test("each issuer's tokens are checked by its own policy and keys only", async () => {
    const now = Math.floor(Date.now() / 1000);
    for (const [name, token] of [
      ["the partner's key under our name", await partnerToken({ iss: "auth-service" })],
      ["our key under the partner's name", await own.accessToken({ iss: PARTNER, aud: "shop" }, { typ: "JWT" })],
      [
        "our key under the partner's name and kid",
        await own.accessToken({ iss: PARTNER, aud: "shop" }, { typ: "JWT", kid: partner.key.kid }),
      ],
      ["a typ that the partner does not use", await partnerToken({}, { typ: "at+jwt" })],
      ["an audience that only our issuer may name", await partnerToken({ aud: "api" })],
      ["the partner's name without its slash", await partnerToken({ iss: PARTNER.slice(0, -1) })],
      ["a lifetime beyond the partner's limit", await partnerToken({ exp: now + 3700 })],
      ["no user id where the partner has it", await partnerToken({ oid: undefined })],
      ["made for an application that is not listed", await partnerToken({ azp: "other" })],
      ["without the roles that must be there", await partnerToken({ realm_access: undefined })],
      ["expired a second ago, with no leeway", await own.accessToken({ iat: now - 60, nbf: now - 60, exp: now - 1 })],
    ])
      assert.equal(await statusOf("/files/x", token), 401, name);
    const long = await own.accessToken({ exp: now + 3700 });
    assert.equal(await statusOf("/files/x", long), 200, "our own limit is a day");
  });

  test("identity comes from the claims that the partner's policy names, in the headers and the assertion", async () => {
    const token = await partnerToken({
      preferred_username: "grace@partner.example",
      realm_access: { roles: ["admin", "user"] },
    });
    assert.equal(await statusOf("/orders/somebody", token), 200, "admin by the nested roles");
    const [seen] = shop.requests;
    assert.equal(seen.headers["x-user-id"], "grace");
    assert.equal(seen.headers["x-user-email"], "grace@partner.example");
    assert.equal(seen.headers["x-user-roles"], "admin,user");
  });

  test("keys of several types in one set each serve their own algorithm", async () => {
    const others = await Promise.all(
      ["EdDSA", "PS384", "ES384"].map((algorithm) => createIssuer({ name: PARTNER, audience: "shop", algorithm })),
    );
    partnerSite.answer("GET /jwks", { json: { keys: [partner, ...others].flatMap((one) => one.jwks().keys) } });
    await edge.restart();
    const claims = partner.claims({
      oid: "grace",
      realm_access: { roles: [] },
      azp: "shop-web",
      token_type: undefined,
    });
    const [edDsa, ps384, es384] = others;
    for (const [name, token, expected] of [
      ["ES256", await partner.sign(claims, { typ: "JWT" }), 200],
      ["EdDSA", await edDsa.sign(claims, { typ: "JWT" }), 200],
      ["PS384", await ps384.sign(claims, { typ: "JWT" }), 200],
      ["ES384, which is not on the list", await es384.sign(claims, { typ: "JWT" }), 401],
      ["EdDSA under the kid of the ES256 key", await edDsa.sign(claims, { typ: "JWT", kid: partner.key.kid }), 401],
    ])
      assert.equal(await statusOf("/files/x", token), expected, name);
  });

  test("all requires every rule, any requires one", async () => {
    const token = (sub, roles) => own.accessToken({ sub, roles });
    for (const [sub, roles, expected] of [
      ["ada", ["trusted"], 200],
      ["ada", ["staff", "user"], 200],
      ["ada", ["user"], 403],
      ["ada", ["admin"], 403],
      ["grace", ["staff"], 403],
    ])
      assert.equal(await statusOf("/orders/ada/refund", await token(sub, roles), "POST"), expected, `${sub} ${roles}`);
    assert.equal(await statusOf("/orders/ada", await token("grace", ["admin"])), 200);
  });

  test("a partner that is down does not affect our own tokens", async () => {
    await partnerSite.stop();
    await edge.restart();
    assert.equal(await statusOf("/files/x", await own.accessToken()), 200);
    await partnerSite.start();
  });
});
