// The progress of a script: in a plain log the begin and end of each step and a line every ten seconds in
// between, on a terminal one line per step.

import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";

import { createProgress } from "../../cli/lib/progress.js";
import { until } from "../harness/wait.js";

function fakeOut(isTTY) {
  let text = "";
  return { isTTY, columns: 80, write: (more) => (text += more), text: () => text };
}

test("a plain log shows when a step begins, how far it is, and when it ends", async () => {
  const out = fakeOut(false);
  let time = 0;
  const progress = createProgress({ out, env: {}, now: () => time });
  let end;
  const step = progress.run("compile the worker", (note) => {
    note("57/92 crates");
    return new Promise((resolve) => (end = resolve));
  });
  assert.equal(out.text(), "[  0.0 s] · compile the worker\n");
  // A fake clock: eleven seconds pass at once.
  time = 11_000;
  await until("a sign of life", () => out.text().includes("…"));
  assert.match(out.text(), /\[ 11\.0 s\] … compile the worker: 57\/92 crates\n$/);
  time = 12_000;
  end("result");
  assert.equal(await step, "result");
  assert.match(out.text(), /\[ 12\.0 s\] ✓ compile the worker · 57\/92 crates \(12\.0 s\)\n$/);
});

test("a failed step is marked, and its error is passed on", async () => {
  const out = fakeOut(false);
  const progress = createProgress({ out, env: {} });
  await assert.rejects(
    progress.run("x", () => Promise.reject(new Error("no"))),
    /no/,
  );
  await progress.run(
    "y",
    async () => 3,
    (result) => result === 0,
  );
  assert.match(out.text(), /✗ x/);
  assert.match(out.text(), /✗ y/);
});

test("a terminal gets one line per step, cut to its width, and CI a plain log", async () => {
  const out = fakeOut(true);
  const progress = createProgress({ out, env: { TERM: "xterm" } });
  await progress.run("long", async (note) => note("n".repeat(200)));
  const last = stripVTControlCharacters(out.text()).trimEnd().split("\n").at(-1);
  assert.ok(last.length < 80 && last.startsWith("✓") && last.endsWith("…"), last);
  assert.equal(createProgress({ out, env: { CI: "true", TERM: "xterm" } }).isLive, false);
});
