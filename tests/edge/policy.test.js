// Another policy than the shipped one, compiled in by GATEWAY_CONFIG: two issuers,
// each judged by its own rules alone, rests of paths, all and any.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { makeAssertionKey } from "../harness/assertion.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const PARTNER = "https://id.partner.example/";

const scope = fileScope();

describe("a policy of one's own", () => {
  let auth, partnerSite, shop, own, partner, edge;

  before(async () => {
    auth = await startUpstream(scope);
    partnerSite = await startUpstream(scope);
    shop = await startUpstream(scope);
    own = (await createIssuer()).publishOn(auth, "/keys?set=1");
    partner = (await createIssuer({ name: PARTNER, audience: "shop" })).publishOn(partnerSite, "/jwks");
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

  test("a token of either issuer opens what its owner may enter", async () => {
    const mine = await own.accessToken({ sub: "ada" });
    const theirs = await partner.accessToken({ sub: "grace", token_type: undefined }, { typ: "JWT" });
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

  test("each issuer's tokens are judged by its own policy and keys alone", async () => {
    const now = Math.floor(Date.now() / 1000);
    for (const [name, token] of [
      ["the partner's key under our name", await partner.accessToken({ iss: "auth-service" }, { typ: "JWT" })],
      ["our key under the partner's name", await own.accessToken({ iss: PARTNER, aud: "shop" }, { typ: "JWT" })],
      ["our key under the partner's name and kid", await own.accessToken({ iss: PARTNER, aud: "shop" }, { typ: "JWT", kid: partner.key.kid })], // prettier-ignore
      ["a typ that the partner does not use", await partner.accessToken({}, { typ: "at+jwt" })],
      ["an audience that only our issuer may name", await partner.accessToken({ aud: "api" }, { typ: "JWT" })],
      ["the partner's name without its slash", await partner.accessToken({ iss: PARTNER.slice(0, -1) }, { typ: "JWT" })], // prettier-ignore
      ["a lifetime beyond the partner's limit", await partner.accessToken({ exp: now + 3700 }, { typ: "JWT" })],
      ["expired a second ago, with no leeway", await own.accessToken({ iat: now - 60, nbf: now - 60, exp: now - 1 })], // prettier-ignore
    ])
      assert.equal(await statusOf("/files/x", token), 401, name);
    const long = await own.accessToken({ exp: now + 3700 });
    assert.equal(await statusOf("/files/x", long), 200, "our own limit is a day");
  });

  test("all wants every rule, any wants one", async () => {
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

  test("a partner that is down costs our own tokens nothing", async () => {
    await partnerSite.stop();
    await edge.restart();
    assert.equal(await statusOf("/files/x", await own.accessToken()), 200);
    await partnerSite.start();
  });
});
