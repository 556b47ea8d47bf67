// Signals to a script: under npm one Ctrl-C reaches it twice and counts once.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { until } from "../harness/wait.js";

const SIGNALS = JSON.stringify(join(ROOT, "cli", "lib", "signals.js"));

// A script that prints the calls that it gets.
const SCRIPT = `
import { listenForEnd } from ${SIGNALS};
listenForEnd((code) => console.log("end", code), () => console.log("again"));
process.stdin.resume().on("end", () => process.exit(0));
console.log("ready");
`;

function start(t, { parent = [], env = {} } = {}) {
  const [command, ...args] = [...parent, process.execPath, "--input-type=module", "--eval", SCRIPT];
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.stdin.end());
  const running = { child, output: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (running.output += text));
  running.says = (pattern) => until(`the script says ${pattern}`, () => pattern.test(running.output));
  return running;
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

describe("a script that is ended by a signal", () => {
  for (const [title, signals] of [
    ["the same signal twice at once", ["SIGINT", "SIGINT"]],
    ["a second signal of another kind", ["SIGINT", "SIGTERM"]],
    ["the closing of a terminal", ["SIGHUP", "SIGHUP", "SIGTERM"]],
  ]) {
    test(`${title} is one wish, and a signal two seconds later another`, async (t) => {
      const running = start(t);
      await running.says(/ready/);
      for (const signal of signals) {
        running.child.kill(signal);
        await pause(100);
      }
      await running.says(/end/);
      await pause(2_000);
      assert.equal(running.output.match(/end|again/g).join(), "end");
      running.child.kill(signals[0]);
      await running.says(/again/);
    });
  }

  test("a failure caused by the end of the script is not reported", async (t) => {
    const errors = JSON.stringify(join(ROOT, "cli", "lib", "errors.js"));
    const script = `
import { listenForEnd } from ${SIGNALS};
import { ScriptError, runMain } from ${errors};
let fail;
listenForEnd(() => fail(new ScriptError("The services do not compile (SIGTERM).")));
const timer = setInterval(() => {}, 1000);
console.log("ready");
await runMain(() => new Promise((_, reject) => (fail = reject)));
clearInterval(timer);
`;
    const child = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "pipe" });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    t.after(() => child.kill("SIGKILL"));
    await until("it is ready", () => /ready/.test(output));
    child.kill("SIGINT");
    const code = await new Promise((resolve) => child.once("close", resolve));
    assert.deepEqual([code, output], [1, "ready\n"]);
  });

  test("the end of npm ends it once, and never counts as a second signal", async (t) => {
    // The shell stands for npm and prints the process id of the script.
    const parent = ["sh", "-c", '"$@" <&3 & echo "pid $!"; wait', "sh"];
    const running = spawn(parent[0], [...parent.slice(1), process.execPath, "--input-type=module", "--eval", SCRIPT], {
      env: { ...process.env, npm_lifecycle_event: "start" },
      stdio: ["ignore", "pipe", "inherit", "pipe"],
    });
    t.after(() => running.stdio[3].end());
    let output = "";
    running.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    await until("it is ready", () => /ready/.test(output));
    process.kill(Number(/pid (\d+)/.exec(output)[1]), "SIGINT");
    await until("it prints the code", () => /end 130/.test(output));
    await pause(2_000);
    running.kill("SIGKILL");
    await pause(1_500);
    assert.equal(output.match(/end \d+|again/g).join(), "end 130");
  });
});
