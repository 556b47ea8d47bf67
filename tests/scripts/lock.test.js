// Two processes never build the worker at the same time.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { withLock } from "../../scripts/lib/lock.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { temporaryFolder } from "../harness/run.js";

// The arguments of a process that takes the lock and then runs `work`.
const holding = (lock, work) => [
  "--input-type=module",
  "--eval",
  `import { writeFileSync } from "node:fs";
   import { withLock } from ${JSON.stringify(join(ROOT, "scripts", "lib", "lock.js"))};
   await withLock(${JSON.stringify(lock)}, async () => { ${work} });`,
];

// Leaves a lock whose holder has died.
const dieHolding = (lock) => spawnSync(process.execPath, holding(lock, "process.exit()"));

test("the second process waits until the first has ended, even if it failed", async (t) => {
  const lock = join(temporaryFolder(t, "lock"), "lock");
  const said = [];
  const work = (name, fails) => async () => {
    said.push(`+${name}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
    said.push(`-${name}`);
    if (fails) throw new Error("failed");
    return name;
  };
  const results = await Promise.allSettled([withLock(lock, work("a", true)), withLock(lock, work("b"))]);
  assert.deepEqual(said, ["+a", "-a", "+b", "-b"]);
  assert.deepEqual(
    results.map(({ status, value }) => [status, value]),
    [
      ["rejected", undefined],
      ["fulfilled", "b"],
    ],
  );
  assert.equal(await withLock(lock, () => "free again"), "free again");
});

test("the lock of a killed process is taken over", async (t) => {
  const lock = join(temporaryFolder(t, "lock"), "lock");
  dieHolding(lock);
  assert.equal(await withLock(lock, () => "mine"), "mine");
});

test("of two processes that find the same holder dead, one takes over", async (t) => {
  const folder = temporaryFolder(t, "lock");
  const [lock, held, released] = ["lock", "held", "released"].map((name) => join(folder, name));
  dieHolding(lock);
  const mark = (file) => `writeFileSync(${JSON.stringify(file)}, "");`;
  // Another process takes over after this one has found the holder dead, and before it takes over itself.
  const kill = t.mock.method(process, "kill", () => {
    kill.mock.restore();
    const pause = "await new Promise((resolve) => setTimeout(resolve, 300));";
    const other = spawn(process.execPath, holding(lock, `${mark(held)} ${pause} ${mark(released)}`), {
      stdio: "inherit",
    });
    t.after(() => other.kill());
    while (!existsSync(held)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    throw Object.assign(new Error("no such process"), { code: "ESRCH" });
  });
  await withLock(lock, async () => assert.ok(existsSync(released), "the other process still holds the lock"));
});
