// The model of `npm run scale`: its limits are those of the code, its figures are right, and docs/scale.md
// is up to date.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { insertInto } from "../../scripts/lib/pages.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { WORLD, constant, scale } from "../../scripts/lib/scale.js";
import { tables } from "../../scripts/scale.js";

test("constants are read as Rust writes them", () => {
  const text = `
/// Milliseconds.
pub const FETCH_MS: u64 = 3_000;
pub const LOST_MS: u64 = 2 * FETCH_MS + 500;
const HOUR_MS: u64 =
    60 * 60 * 1000;
pub const NAME: &str = "x";
`;
  for (const [name, expected] of [
    ["FETCH_MS", 3000],
    ["LOST_MS", 6500],
    ["HOUR_MS", 3_600_000],
  ]) {
    assert.equal(constant(text, name), expected, name);
  }
  assert.throws(() => constant(text, "MISSING"), /there is no constant MISSING/);
  assert.throws(() => constant(text, "NAME"), /NAME/);
});

test("a model computed by hand has the same figures", () => {
  const bounds = {
    ...{ revocationPage: 2, revocationWhole: 30, revocationCovers: 60 },
    ...{ keysFreshLeast: 60, keysFreshMost: 3600, keysRewrite: 3600, keySetAge: 300, cron: 300 },
    ...{ policyReread: 30, flush: 10 },
  };
  const world = { ...WORLD, locations: 30, isolatesPerLocation: 10, requestsPerSecond: 1000, revocationsPerSecond: 0 };
  const result = scale(bounds, world);
  assert.equal(result.isolates, 300);
  assert.equal(result.perSecond.kvReads, 10, "300 isolates, each in 30 s");
  assert.equal(result.perSecond.logObjectRequests, 16, "30 locations, each in 2 s and in 30 s");
  assert.equal(result.perSecond.sumsObjectRequests, 30, "300 isolates, each in 10 s");
  assert.equal(result.perSecond.originKeyFetches, 300 / 300 + 1 / 300);
  // 2,592 million requests a month at 30 cents a million.
  assert.equal(Math.round(result.cost.requests * 100), 77760);
  assert.equal(result.breaksFirst, "metrics object");
  assert.equal(result.room["revocation log"].until, Math.floor(1000 / (1 / 2 + 1 / 30)));
});

test("as many requests are logged as a deployment logs by default", () => {
  const limits = readFileSync(join(ROOT, "src", "pipeline", "limits.rs"), "utf8");
  assert.equal(WORLD.loggedShare, constant(limits, "LOGGED_SUCCESSES") / 100);
});

test("docs/scale.md is up to date", () => {
  const document = readFileSync(join(ROOT, "docs", "scale.md"), "utf8");
  assert.equal(document, insertInto("docs/scale.md", "scale", tables(WORLD)), "run: npm run scale -- --write");
});
