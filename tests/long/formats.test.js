// Two neighbouring versions with one state: the release of tests/formats/recorded.json, built from its commit, and this one.
// PREVIOUS_BUILD names the folder of an existing build instead.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { BUILD, NODE, ROOT } from "../../scripts/lib/paths.js";
import { compilePolicy } from "../../scripts/lib/policy-tool.js";
import { assertReads, assertShare, observe } from "../harness/formats.js";
import { temporaryFolder } from "../harness/run.js";
import { fileScope, testScope } from "../harness/scope.js";

const scope = fileScope();

const {
  commit,
  policy: _,
  ...recorded
} = JSON.parse(readFileSync(join(ROOT, "tests", "formats", "recorded.json"), "utf8"));

const git = (...args) => spawnSync("git", args, { cwd: ROOT, encoding: "utf8" });
const hasCommit = process.env.PREVIOUS_BUILD !== undefined || git("cat-file", "-e", `${commit}^{commit}`).status === 0;

// Builds the commit with the installed tools of this checkout.
function buildPrevious() {
  if (process.env.PREVIOUS_BUILD !== undefined) return process.env.PREVIOUS_BUILD;
  const folder = join(temporaryFolder(scope, "previous"), "checkout");
  for (const args of [
    ["clone", "--quiet", "--shared", "--no-checkout", ROOT, folder],
    ["-C", folder, "checkout", "--quiet", "--detach", commit],
  ]) {
    const { status, stderr } = git(...args);
    assert.equal(status, 0, stderr);
  }
  // Its policy tool is its own.
  mkdirSync(join(folder, ".tools"));
  for (const name of ["node_modules", join(".tools", "bin")]) symlinkSync(join(ROOT, name), join(folder, name));
  const built = spawnSync(NODE, ["scripts/build-edge.js"], { cwd: folder, encoding: "utf8" });
  assert.equal(built.status, 0, built.stdout + built.stderr);
  return join(folder, "build");
}

describe("two neighbouring versions", { skip: hasCommit ? false : `the commit ${commit} is not in this clone` }, () => {
  let previous, policy;

  before(async () => {
    previous = buildPrevious();
    const file = join(temporaryFolder(scope, "policy"), "gateway.toml");
    const route = '[[routes]]\npath = "/pushed"\nmethods = ["GET"]\nupstream = "users"\naccess = "public"\n';
    writeFileSync(file, `${readFileSync(join(ROOT, "gateway.toml"), "utf8")}\n${route}`);
    policy = await compilePolicy(file);
  });

  test("the recorded forms are those of the previous one", async (t) => {
    assert.deepEqual(JSON.parse(JSON.stringify(await observe(testScope(t), { build: previous }))), recorded);
  });

  test("this one uses keys, revocations, policy and sums of the previous one", async (t) => {
    await assertReads(testScope(t), { writer: previous, policy });
  });

  test("the previous one uses keys, revocations, policy and sums of this one", async (t) => {
    await assertReads(testScope(t), { reader: previous, policy });
  });

  test("both use the objects of this one at once", async (t) => {
    await assertShare(testScope(t), { build: BUILD, twin: previous });
  });

  test("both use the objects of the previous one at once", async (t) => {
    await assertShare(testScope(t), { build: previous, twin: BUILD });
  });
});
