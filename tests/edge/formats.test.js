// The formats that neighbouring versions share: this version writes what the recorded release wrote. Another form needs a
// reader in the release before it. Then record it: UPDATE_FORMATS=1 node --test tests/edge/formats.test.js, with the commit
// of that release as `commit`, which tests/long/formats.test.js builds.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { compilePolicy } from "../../scripts/lib/policy-tool.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { observe } from "../harness/formats.js";
import { testScope } from "../harness/scope.js";

const FILE = join(ROOT, "tests", "formats", "recorded.json");

const skip = onlyOnPlatform("it keeps its state in other files");

test("this version writes the forms of the recorded release", { skip }, async (t) => {
  const seen = await observe(testScope(t));
  const policy = JSON.parse(await compilePolicy(join(ROOT, "tests", "formats", "policy.toml")));
  const recorded = JSON.parse(readFileSync(FILE, "utf8"));
  const now = { commit: recorded.commit, ...JSON.parse(JSON.stringify(seen)), policy };
  if (process.env.UPDATE_FORMATS) writeFileSync(FILE, `${JSON.stringify(now, null, 2)}\n`);
  else assert.deepEqual(now, recorded);
});
