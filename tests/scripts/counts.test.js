// The counts in the last line of `npm test`, and the secret scan.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { createCargoCounter, createNodeCounter, emptyCount, settle } from "../../scripts/lib/test-counts.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { findSecrets } from "../../scripts/lib/secret-scan.js";
import { temporaryFolder } from "../harness/run.js";

function countCargo(text, end) {
  const counter = createCargoCounter();
  for (const line of text.split("\n")) counter.read(line);
  return settle(counter.count, end);
}

test("cargo's results are added up over all binaries", () => {
  const count = countCargo(
    `running 2 tests
test token::a_is_b ... ok
test token::c_is_d ... ignored, needs a network
test result: ok. 1 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
test keys::e_is_f ... FAILED
test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`,
    { code: 101 },
  );
  assert.deepEqual(count, {
    passed: 4,
    failed: 1,
    skipped: 1,
    failures: ["keys::e_is_f"],
    skips: ["token::c_is_d: needs a network"],
  });
});

test("the output of a failed cargo test is kept, however much follows it", () => {
  const count = countCargo(
    `test token::a_is_b ... FAILED
successes:

---- token::c_is_d stdout ----
a line of a test that passed

failures:

---- token::a_is_b stdout ----
thread 'token::a_is_b' panicked at src/token.rs:1:1:
left is not right

failures:
    token::a_is_b

test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
${"test keys::e_is_f ... ok\n".repeat(500)}
test result: ok. 500 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s`,
    { code: 101 },
  );
  assert.deepEqual([count.passed, count.failed, count.failures.length], [501, 1, 2]);
  assert.equal(count.failures[0], "token::a_is_b");
  assert.match(count.failures[1], /panicked at src\/token\.rs:1:1:\nleft is not right/);
  assert.doesNotMatch(count.failures[1], /a test that passed/);
});

test("a program that crashes is distinguished from one whose tests fail", () => {
  const green = "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
  const red = "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s";
  const cases = [
    [`test a ... FAILED\nfailures:\n${red}\n${green}`, false],
    [`test a ... FAILED\nthread 'a' panicked in a destructor`, true],
    [`test a ... FAILED\nfailures:\n${red}\nCaused by:\n  process didn't exit successfully (signal: 6, SIGABRT)`, true],
    [`test a ... FAILED\nfailures:\n${red}\nerror: could not compile \`portcullis-client\``, true],
  ];
  for (const [text, expected] of cases) {
    const counter = createCargoCounter();
    for (const line of text.split("\n")) counter.read(line);
    assert.equal(counter.brokeOff(), expected, text);
  }
});

test("a compile error is a failure", () => {
  const count = countCargo("error: could not compile `portcullis`", { code: 101, what: "cargo test" });
  assert.equal(count.failed, 1);
  assert.match(count.failures[0], /cargo test ended with exit code 101/);
});

test("a crash after passed tests is a failure", () => {
  const count = countCargo("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured", {
    code: null,
    signal: "SIGSEGV",
  });
  assert.deepEqual([count.passed, count.failed], [3, 1]);
});

test("a suite that runs nothing is a failure", () => {
  assert.equal(settle(emptyCount(), { code: 0, what: "it" }).failed, 1);
});

function runNode(t, source) {
  const file = join(temporaryFolder(t), "some.test.js");
  writeFileSync(file, source);
  const env = { ...process.env };
  // Otherwise node takes the inner run for a part of this one.
  delete env.NODE_TEST_CONTEXT;
  const { stdout, status, signal } = spawnSync(
    process.execPath,
    ["--test", `--test-reporter=${join(ROOT, "scripts", "lib", "node-reporter.js")}`, file],
    { encoding: "utf8", env },
  );
  const counter = createNodeCounter();
  for (const line of stdout.split("\n")) counter.read(line);
  return settle(counter.count, { code: status, signal, what: "node" });
}

test("node's tests are counted one by one, groups are not", (t) => {
  const count = runNode(
    t,
    `const { test, describe } = require("node:test");
     describe("group", () => {
       test("one", () => {});
       test("two", { skip: "no such thing here" }, () => {});
       test("three", () => { throw new Error("no"); });
     });
     test("four", () => {});`,
  );
  assert.deepEqual([count.passed, count.failed, count.skipped], [2, 1, 1]);
  assert.deepEqual(count.skips, ["group › two: no such thing here"]);
  assert.match(count.failures[0], /^group › three\nError: no/);
});

test("a hook that fails is a failure", (t) => {
  const count = runNode(
    t,
    `const { test, describe, after } = require("node:test");
     describe("group", () => { after(() => { throw new Error("left a mess"); }); test("one", () => {}); });`,
  );
  assert.equal(count.failed, 1);
});

test("a file that throws, one that exits and one without tests are failures", (t) => {
  for (const source of ["throw new Error('x')", "process.exit(3)", "1 + 1"]) {
    assert.equal(runNode(t, source).failed, 1, source);
  }
});

test("the scan finds a token, a password and a secret, and prints none of them", (t) => {
  const file = join(temporaryFolder(t), "a.log");
  const token = ["eyJhbGciOiJSUzI1NiJ9", "eyJzdWIiOiIxIn0", "c2lnbmF0dXJl"].join(".");
  writeFileSync(file, `fine\n{"ua":"${token}"}\nlogin with hunter2hunter2\neyJ is no token, eyJab.c neither\n`);
  const findings = findSecrets([file], ["hunter2hunter2"]);
  assert.deepEqual(
    findings.map(({ line }) => line),
    [2, 3],
  );
  const shown = JSON.stringify(findings);
  assert.ok(!shown.includes(token) && !shown.includes("hunter2hunter2"));
});
