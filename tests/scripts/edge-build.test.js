// The compiler flags of the worker.

import assert from "node:assert/strict";
import { test } from "node:test";

import { configFor, featuresFor } from "../../scripts/lib/profiles.js";

test("a deployed worker has Rust signature checks only if RUST_SIGNATURES is set", () => {
  for (const [profile, env, expected] of [
    ["worker", {}, ["--no-default-features"]],
    ["worker", { RUST_SIGNATURES: "true" }, []],
    ["worker", { RUST_SIGNATURES: "false" }, ["--no-default-features"]],
    ["local", {}, []],
    ["release", {}, []],
  ]) {
    assert.deepEqual(featuresFor(profile, env), expected, `${profile} ${JSON.stringify(env)}`);
  }
});

test("a deployed worker names no directory of the machine that built it", () => {
  assert.deepEqual(configFor("worker", "/home/ada l/.cargo"), [
    "--config",
    'target.wasm32-unknown-unknown.rustflags=["--remap-path-prefix=/home/ada l/.cargo=cargo","-Cllvm-args=--inline-threshold=100"]',
  ]);
  assert.deepEqual(configFor("local", "/home/ada/.cargo"), []);
});
