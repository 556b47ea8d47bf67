// No child process outlives the script: not one that ignores SIGTERM, not a grandchild, not even when the
// script is killed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { createProcesses, isAlive } from "../../cli/lib/processes.js";
import { until } from "../harness/wait.js";

// A shell with a child; neither ends during this test.
const FAMILY = "sleep 1000 & echo family; wait";
// The same, ignoring SIGTERM.
const DEAF = "trap '' TERM; sleep 1000 & echo family; while true; do wait; sleep 1; done";

function startFamily(processes, script) {
  return new Promise((resolve) => {
    const running = processes.start("family", "/bin/sh", ["-c", script], {
      env: process.env,
      onLine: () => resolve(running),
    });
  });
}

test("a process and its children end on SIGTERM", async () => {
  const processes = createProcesses();
  const family = await startFamily(processes, FAMILY);
  assert.ok(isAlive(family.pid));
  await processes.stopAll();
  assert.ok(!isAlive(family.pid));
});

test("processes that ignore SIGTERM are killed after the timeout", async () => {
  const processes = createProcesses();
  const family = await startFamily(processes, DEAF);
  await processes.stopAll(200);
  assert.ok(!isAlive(family.pid));
});

test("children end when the script is killed", async () => {
  const starter = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `import { createProcesses } from ${JSON.stringify(join(ROOT, "cli", "lib", "processes.js"))};
       const family = createProcesses().start("family", "/bin/sh", ["-c", ${JSON.stringify(FAMILY)}], {
         env: process.env, onLine: () => console.log(family.pid),
       });`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const pid = await new Promise((resolve) => starter.stdout.once("data", (text) => resolve(Number(text))));
  assert.ok(isAlive(pid));
  starter.kill("SIGKILL");
  await until("the children are gone", () => !isAlive(pid));
});
