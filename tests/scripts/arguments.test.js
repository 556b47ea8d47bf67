// What the scripts print for --help, wrong arguments and missing prerequisites: one sentence and an exit
// code, before any work begins.

import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { SERVICES, digestOf } from "../../scripts/lib/programs.js";
import { temporaryFolder } from "../harness/run.js";
import { runScript } from "../harness/scripts.js";

const FREE_PORTS = { EDGE_PORT: "0", AUTH_PORT: "0", USERS_PORT: "0" };

function assertOneSentence(err, pattern) {
  const lines = err.trim().split("\n");
  assert.equal(lines.length, 1, err);
  assert.match(lines[0], /^portcullis: /);
  assert.match(lines[0], pattern);
}

for (const name of ["start", "setup", "build-edge", "test", "fuzz", "counts"]) {
  test(`${name} --help lists the options`, async () => {
    const { code, out, err } = await runScript(name, ["--help"]).ended;
    assert.equal(code, 0);
    assert.equal(err, "");
    assert.match(out, /--help/);
    const words = {
      start: /EDGE_PORT .*DATA_DIR .*GATEWAY_CONFIG /s,
      setup: /starts nothing.*DATA_DIR/s,
      "build-edge": /GATEWAY_CONFIG .*EDGE_PROFILE/s,
      test: /--only .*stack/s,
      fuzz: /jwks.*corpus/s,
      counts: /--write .*bench\/counts\.json/s,
    };
    assert.match(out, words[name]);
  });

  test(`${name} refuses an unknown argument and points to --help`, async () => {
    const { code, err } = await runScript(name, ["--fast"]).ended;
    assert.equal(code, 2);
    assertOneSentence(err, /"--fast".*--help/);
  });
}

test("an unknown suite is refused with the list of suites", async () => {
  const { code, err } = await runScript("test", ["--only", "stak"]).ended;
  assert.equal(code, 2);
  assertOneSentence(err, /"stak".*stack/);
});

for (const variable of ["EDGE_PORT", "AUTH_PORT", "USERS_PORT"]) {
  test(`a port of ${variable} in use is reported at once, with the variable to set`, async (t) => {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const { port } = server.address();
    const env = { ...FREE_PORTS, [variable]: String(port), DATA_DIR: temporaryFolder(t) };
    const { code, out, err } = await runScript("start", [], { env }).ended;
    assert.equal(code, 3);
    assert.equal(out, "", "no work has begun");
    assertOneSentence(err, new RegExp(`${port}.*taken.*${variable}`));
  });

  test(`a ${variable} that is no port is refused at once`, async () => {
    for (const text of ["http", "70000", "-1", "80.5", "0x50"]) {
      const { code, err } = await runScript("start", [], { env: { [variable]: text } }).ended;
      assert.equal(code, 2, text);
      assertOneSentence(err, new RegExp(variable));
    }
  });
}

// A checkout without build and packages: the scripts, and links to the other sources.
function freshCheckout(t) {
  const root = temporaryFolder(t, "checkout");
  for (const folder of ["cli", "scripts"]) cpSync(join(ROOT, folder), join(root, folder), { recursive: true });
  for (const name of ["Cargo.toml", "Cargo.lock", "package-lock.json", "package.json", "client", "crates", "origin"])
    symlinkSync(join(ROOT, name), join(root, name));
  return root;
}

// Creates a directory with these programs, each of which prints a text.
function pathWith(t, programs) {
  const folder = temporaryFolder(t, "path");
  symlinkSync(process.execPath, join(folder, "node"));
  for (const [name, says] of Object.entries(programs)) writeProgram(join(folder, name), `echo '${says}'`);
  return folder;
}

function writeProgram(file, script) {
  writeFileSync(file, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

const PRESENT = { npm: "11.0.0", cargo: "cargo 1.99.0", rustc: "rustc 1.99.0", cc: "cc 12" };

// Starts services in a checkout, with free ports, an empty data directory and only these programs.
function startWith(t, programs, { root = freshCheckout(t), args = [] } = {}) {
  const env = { ...FREE_PORTS, PATH: pathWith(t, programs), CC: "", DATA_DIR: temporaryFolder(t) };
  return runScript("start", args, { root, env }).ended;
}

for (const [missing, pattern] of [
  ["npm", /npm is missing; install/],
  ["cargo", /Rust is missing; install rustup from https:\/\/rustup\.rs/],
  ["cc", /C compiler is missing; install/],
]) {
  test(`without ${missing} the error names what to install`, async (t) => {
    const { [missing]: _, ...programs } = PRESENT;
    const { code, err } = await startWith(t, programs);
    assert.equal(code, 2);
    assertOneSentence(err, pattern);
  });
}

test("an outdated Rust is reported with the command that updates it", async (t) => {
  const { code, err } = await startWith(t, { ...PRESENT, rustc: "rustc 1.70.0" });
  assert.equal(code, 2);
  assertOneSentence(err, /1\.70\.0 is too old; run: rustup update stable/);
});

test("without cargo an existing build is used, and one that is older than its sources is named", async (t) => {
  const root = freshCheckout(t);
  const program = join(root, "target", "debug", "portcullis-origin");
  mkdirSync(dirname(program), { recursive: true });
  // It ends at once, so that the script does.
  writeProgram(program, "exit 7");
  for (const [digest, notice] of [
    ["of other sources", /Rust is missing: the existing build is used\. These are older .*: the services\.$/m],
    [digestOf(SERVICES.sources), /Rust is missing: the existing build is used\.$/m],
  ]) {
    writeFileSync(`${program}.stamp`, digest);
    const { out, err } = await startWith(t, {}, { root, args: ["users"] });
    assert.match(out, notice);
    assert.match(err, /users ended \(exit code 7\)/);
  }
});

test("counts without valgrind says how to install it, and installs nothing", async (t) => {
  const PATH = pathWith(t, {});
  const called = join(PATH, "called");
  writeProgram(join(PATH, "apt-get"), `: > ${called}`);
  const { code, err } = await runScript("counts", [], { env: { PATH } }).ended;
  assert.equal(code, 2);
  assertOneSentence(err, /valgrind is not installed \(Debian: apt install valgrind\)\./);
  assert.ok(!existsSync(called));
});
