// What the operators' page computes: metrics, differences of policies, and what a token says.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";

import { diff, textOf } from "../../page/diff.js";
import * as samples from "../../page/samples.js";
import { explain } from "../../page/token.js";

describe("metrics of several polls", () => {
  beforeEach(() => samples.forget());

  const page = (requests, buckets) =>
    [
      "# HELP requests_total Requests.",
      `requests_total{route="/a/{id}",status="200"} ${requests}`,
      'requests_total{route="/b",status="404"} 2',
      ...buckets.map((count, index) => `times_bucket{route="/a/{id}",le="${["0.01", "0.1", "+Inf"][index]}"} ${count}`),
      "age 3.5",
    ].join("\n");

  test("a rate is the growth in the last fifteen seconds", () => {
    for (const [at, requests] of [
      [0, 10],
      [5_000, 20],
      [10_000, 40],
      [15_000, 70],
      [20_000, 70],
    ])
      samples.add(samples.parse(page(requests, []), at));
    const rates = samples.over((grown, seconds) => samples.total(grown("requests_total")) / seconds);
    assert.deepEqual(
      rates.map(({ value }) => value),
      [2, 3, 4, 50 / 15],
    );
    assert.deepEqual(samples.by(samples.points("requests_total"), "status"), [
      ["200", 70],
      ["404", 2],
    ]);
    assert.deepEqual(samples.points("age"), [{ labels: {}, value: 3.5 }]);
  });

  test("a counter that has begun again counts from zero", () => {
    samples.add(samples.parse(page(50, []), 0));
    samples.add(samples.parse(page(5, []), 10_000));
    assert.equal(samples.total(samples.grown("requests_total")), 5);
  });

  test("a quantile lies within its bucket, and the last bucket has no end", () => {
    const of = (buckets, quantile) =>
      samples.quantileMs(samples.points("times_bucket", samples.parse(page(0, buckets), 0)), quantile);
    assert.equal(of([10, 10, 10], 0.5), 5);
    assert.equal(Math.round(of([0, 10, 10], 0.5)), 55);
    assert.equal(of([0, 0, 10], 0.5), 100);
    assert.equal(of([0, 0, 0], 0.5), undefined);
  });
});

test("a difference shows what changed with three lines around it, whatever the order of members", () => {
  const routes = Array.from({ length: 9 }, (_, index) => ({
    path: `/a/rather/long/path/${index}`,
    methods: ["GET", "HEAD"],
    access: "user",
  }));
  const before = { version: 1, routes };
  assert.deepEqual(
    diff(before, { routes, version: 1 }).filter(({ kind }) => kind !== "skipped"),
    [],
  );
  const after = {
    version: 1,
    routes: routes.map((route, index) => (index === 4 ? { ...route, access: "public" } : route)),
  };
  const changed = diff(before, after);
  assert.deepEqual(
    changed.map(({ kind }) => kind),
    ["skipped", "same", "same", "same", "removed", "added", "same", "same", "same", "skipped"],
  );
  const apply = (kinds) => changed.filter(({ kind }) => kinds.includes(kind)).map(({ text }) => text);
  assert.match(apply(["removed"]).join(), /"access": "user"/);
  assert.match(apply(["added"]).join(), /"access": "public"/);
  assert.deepEqual(JSON.parse(textOf(after)), after);
});

describe("a token", () => {
  const NOW = 1_800_000_000_000;
  const issuer = {
    issuer: "https://id.example",
    audience: ["api"],
    algorithms: ["RS256"],
    types: ["at+jwt"],
    token_type: "access",
    max_lifetime_s: 900,
  };
  const policy = { issuers: { id: issuer } };
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const begin = NOW / 1000 - 60;
  const make = (header = {}, claims = {}) =>
    [
      encode({ alg: "RS256", typ: "at+jwt", ...header }),
      encode({ iss: "https://id.example", aud: "api", iat: begin, exp: begin + 600, token_type: "access", ...claims }),
      "c2ln",
    ].join(".");

  for (const [name, token, expected] of [
    ["good", make(), []],
    ["good, with its scheme", `Authorization: Bearer ${make()}`, []],
    ["with a media type as typ", make({ typ: "application/AT+JWT" }), []],
    ["opaque", "opaque", ["token_malformed"]],
    ["not JSON", "a.b.c", ["token_header_malformed", "token_claims_malformed"]],
    ["with crit", make({ crit: ["x"] }), ["token_header_extension"]],
    ["of another issuer", make({}, { iss: "https://id.example/" }), ["token_issuer_unknown"]],
    ["with another algorithm", make({ alg: "none" }), ["token_algorithm_not_allowed"]],
    ["of another type", make({ typ: "JWT" }), ["token_type_header_invalid"]],
    ["for others", make({}, { aud: ["web"] }), ["token_audience_invalid"]],
    ["that refreshes", make({}, { token_type: "refresh" }), ["token_type_invalid"]],
    ["within the leeway", make({}, { iat: begin - 100, exp: begin + 31 }), []],
    ["expired", make({}, { iat: begin - 100, exp: begin }), ["token_expired"]],
    ["of the future", make({}, { nbf: begin + 120 }), ["token_not_yet_valid"]],
    ["without exp", make({}, { exp: undefined }), ["token_dates_invalid"]],
    ["for too long", make({}, { exp: begin + 901 }), ["token_lifetime_too_long"]],
  ]) {
    test(`${name} is explained`, () => {
      const { checks } = explain(token, policy, NOW);
      assert.deepEqual(
        checks.filter(({ result }) => result === "bad").map(({ code }) => code),
        expected,
      );
    });
  }
});
