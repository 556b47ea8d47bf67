// Rules on where a client is, which tenant a request is for, and how its user logged in. The table of
// tests/native/conditions.rs has more attacks; here they pass a real HTTP server.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { BlockList, isIPv6 } from "node:net";
import { before, describe, test } from "node:test";

import * as oauth from "oauth4webapi";

import { isServed } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const NETWORKS = ["192.0.2.0/24", "198.51.100.64/26", "203.0.113.7", "2001:db8::/32", "2001:db9:2::/47", "fd00::/9"];

const POLICY = `
[issuers.own]
issuer = "own"
audience = ["api"]
algorithms = ["ES256"]
jwks_file = "own.json"

[upstreams.users]
url = "http://127.0.0.1:1"

${Object.entries({
  "/office": `{ network = ${JSON.stringify(NETWORKS)} }`,
  "/land": '{ country = ["DE", "FR"] }',
  "/t/{tenant}": '{ claim = "tenant", equals_path = "tenant" }',
  "/host": '{ claim = "tenant", equals_host = "{tenant}.api.example.com" }',
  "/pay": "{ max_age = 300 }",
  "/sign": '{ all = [{ acr = ["urn:key", "urn:mfa"] }, { max_age = 60 }] }',
})
  .map(([path, access]) => `[[routes]]\npath = "${path}"\nmethods = ["GET"]\nupstream = "users"\naccess = ${access}\n`)
  .join("\n")}`;

describe("a rule on the circumstances of a request", () => {
  let own, users, edge, token;

  before(async () => {
    own = await createIssuer({ name: "own", algorithm: "ES256" });
    users = await startUpstream(scope);
    edge = await startEdge(scope, {
      users,
      policy: { text: POLICY, files: { "own.json": JSON.stringify(own.jwks()) } },
    });
    token = await own.accessToken({ tenant: "shop" });
  });

  const codeOf = ({ status, body }) => (status === 200 ? "ok" : JSON.parse(body).code);
  const get = async (path, headers = {}, bearer = token) => codeOf(await edge.get(path, { token: bearer, headers }));
  // Miniflare takes the platform's facts from this header.
  const platform = (facts) => ({ "MF-CF-Blob": JSON.stringify(facts) });

  test("country and address are those of the platform", async () => {
    users.forget();
    for (const [expected, path, headers] of [
      ["ok", "/land", platform({ country: "DE" })],
      ["rights_missing", "/land", platform({ country: "US" })],
      ["rights_missing", "/land", { ...platform({ country: "US" }), "CF-IPCountry": "DE" }],
      ["rights_missing", "/land", { ...platform({}), "CF-IPCountry": "DE" }],
      ["rights_missing", "/land", platform({ country: "T1" })],
      ["rights_missing", "/land", platform({ country: ["DE"] })],
      ["rights_missing", "/land", platform({ country: null })],
      ["rights_missing", "/land", {}],
      ["ok", "/office", { "CF-Connecting-IP": "192.0.2.9" }],
      ["ok", "/office", { "CF-Connecting-IP": "::ffff:192.0.2.9" }],
      ["rights_missing", "/office", { "CF-Connecting-IP": "192.0.3.9" }],
      ["rights_missing", "/office", { "CF-Connecting-IP": "192.0.3.9", "X-Forwarded-For": "192.0.2.9" }],
      ["rights_missing", "/office", { "CF-Connecting-IP": "192.0.3.9", "X-Real-IP": "192.0.2.9" }],
      ["rights_missing", "/office", { "X-Forwarded-For": "192.0.2.9", Forwarded: "for=192.0.2.9" }],
    ]) {
      // Without the platform, no country is known.
      const here = isServed && path === "/land" ? "rights_missing" : expected;
      assert.equal(await get(path, headers), here, `${path} ${JSON.stringify(headers)}`);
    }
    const twice = [
      ["CF-Connecting-IP", "192.0.2.9"],
      ["CF-Connecting-IP", "192.0.3.9"],
    ];
    assert.equal(await get("/office", twice), "rights_missing");
    assert.equal(users.requests.length, isServed ? 2 : 3);
  });

  test("a network is decided as node:net decides", async () => {
    const judge = new BlockList();
    for (const network of NETWORKS) {
      const [address, prefix] = network.split("/");
      const family = isIPv6(address) ? "ipv6" : "ipv4";
      if (prefix === undefined) judge.addAddress(address, family);
      else judge.addSubnet(address, Number(prefix), family);
    }
    // The first and the last address of each network, and those next to them.
    const addresses = [
      ...["192.0.1.255", "192.0.2.0", "192.0.2.255", "192.0.3.0", "198.51.100.63", "198.51.100.64", "198.51.100.127"],
      ...["198.51.100.128", "203.0.113.6", "203.0.113.7", "203.0.113.8", "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff"],
      ...[
        "2001:db8::",
        "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
        "2001:db9::",
        "2001:db9:0:ffff::1",
        "2001:db9:1:ffff::",
      ],
      ...[
        "2001:db9:2::",
        "2001:db9:3:ffff::1",
        "2001:db9:4::",
        "fcff::1",
        "fd00::",
        "fd7f:ffff::1",
        "fd80::",
        "::1",
        "127.0.0.1",
      ],
    ];
    for (let count = 0; count < 20; count += 1) {
      const [third, fourth] = randomBytes(2);
      addresses.push(`192.0.${third % 4}.${fourth}`, `2001:db${"789a"[third % 4]}:${fourth.toString(16)}::1`);
    }
    for (const address of addresses) {
      const expected = judge.check(address, isIPv6(address) ? "ipv6" : "ipv4") ? "ok" : "rights_missing";
      assert.equal(await get("/office", { "CF-Connecting-IP": address }), expected, address);
    }
  });

  test("the tenant of path and host is that of the token", async () => {
    for (const [expected, path, host] of [
      ["ok", "/t/shop", undefined],
      ["ok", "/t/%73hop", undefined],
      ["rights_missing", "/t/bank", undefined],
      ["rights_missing", "/t/%62ank", undefined],
      ["rights_missing", "/t/SHOP", undefined],
      ["path_ambiguous", "/t/shop%2Fx", undefined],
      ["ok", "/host", "shop.api.example.com"],
      ["ok", "/host", "shop.api.example.com:8443"],
      ["ok", "/host", "SHOP.api.EXAMPLE.com"],
      ["rights_missing", "/host", "bank.api.example.com"],
      ["rights_missing", "/host", "shop.api.example.com."],
      ["rights_missing", "/host", "shop.api.example.com.evil.example"],
      ["rights_missing", "/host", "x.shop.api.example.com"],
      ["rights_missing", "/host", undefined],
    ]) {
      assert.equal(await get(path, host === undefined ? {} : { host }), expected, `${path} ${host}`);
    }
    assert.equal(await get("/host", { "X-Forwarded-Host": "shop.api.example.com" }), "rights_missing");
    // Of two hosts, the one that decides is the one that the service gets.
    for (const [target, host] of [
      ["shop", "bank"],
      ["bank", "shop"],
    ]) {
      users.forget();
      const code = await get(`http://${target}.api.example.com/host`, { host: `${host}.api.example.com` });
      const seen = users.requests.map(({ headers }) => headers["x-forwarded-host"]);
      assert.deepEqual(seen, code === "ok" ? ["shop.api.example.com"] : [], `${target} ${host}`);
    }
  });

  test("a refusal leads a client to another login", async () => {
    const now = () => Math.floor(Date.now() / 1000);
    const request = async (path, claims) => {
      const bearer = await own.accessToken(claims);
      const options = { [oauth.allowInsecureRequests]: true };
      return oauth.protectedResourceRequest(bearer, "GET", new URL(path, edge.url), undefined, undefined, options);
    };
    const challengeOf = async (path, claims) => {
      const error = await request(path, claims).then(
        () => assert.fail("it was accepted"),
        (error) => error,
      );
      assert.ok(error instanceof oauth.WWWAuthenticateChallengeError, String(error));
      assert.equal(error.response.status, 401);
      const [{ scheme, parameters }] = error.cause;
      assert.equal(scheme, "bearer");
      assert.equal(parameters.error, "insufficient_user_authentication");
      return parameters;
    };
    const old = { auth_time: now() - 1_000 };
    const { max_age, acr_values } = await challengeOf("/pay", old);
    assert.deepEqual([max_age, acr_values], ["300", undefined]);
    assert.equal((await request("/pay", { auth_time: now() })).status, 200);
    const strong = await challengeOf("/sign", { ...old, acr: "urn:password" });
    assert.deepEqual([strong.max_age, strong.acr_values.split(" ")], ["60", ["urn:key", "urn:mfa"]]);
    // The client logs in as the challenge says.
    const [acr] = strong.acr_values.split(" ");
    assert.equal((await request("/sign", { auth_time: now(), acr })).status, 200);
    assert.equal((await challengeOf("/sign", { auth_time: now() - Number(strong.max_age) - 30, acr })).max_age, "60");
  });
});
