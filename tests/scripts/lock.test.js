// Two processes never build the worker at the same time.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { withLock } from "../../scripts/lib/lock.js";
import { temporaryFolder } from "../harness/run.js";

test("the second process waits until the first has ended, even if it failed", async (t) => {
  const file = join(temporaryFolder(t, "lock"), "lock");
  const said = [];
  const work = (name, fails) => async () => {
    said.push(`+${name}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    said.push(`-${name}`);
    if (fails) throw new Error("failed");
    return name;
  };
  const results = await Promise.allSettled([withLock(file, work("a", true)), withLock(file, work("b"))]);
  assert.deepEqual(said, ["+a", "-a", "+b", "-b"]);
  assert.deepEqual(
    results.map(({ status, value }) => [status, value]),
    [
      ["rejected", undefined],
      ["fulfilled", "b"],
    ],
  );
  assert.ok(!existsSync(file));
});

test("the lock of a killed process is taken over", async (t) => {
  const file = join(temporaryFolder(t, "lock"), "lock");
  const { pid } = spawnSync(process.execPath, ["--version"]);
  writeFileSync(file, String(pid));
  assert.equal(await withLock(file, () => "mine"), "mine");
});
