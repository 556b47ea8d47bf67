// The suites of `npm test`, in the order in which they run: what is cheap and says
// most comes first.

import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

import { MODULES, NODE, ROOT, TARGET, WASM, WASM_TEST_RUNNER } from "./places.js";

// Ends a test that would never end; the longest takes half a minute.
const TEST_MS = 180_000;

const STRICT = ["--", "-D", "warnings"];

const cargo = (...args) => ({ command: "cargo", args });

const locked = process.env.CI ? ["--locked"] : [];

const nodeTests = (folder) => ({
  kind: "node",
  command: NODE,
  args: () => [
    "--test",
    "--test-concurrency=1",
    `--test-timeout=${TEST_MS}`,
    `--test-reporter=${join(ROOT, "scripts", "lib", "node-reporter.js")}`,
    ...testFiles(join(ROOT, "tests", folder)),
  ],
});

export const SUITES = [
  {
    name: "format",
    title: "format",
    kind: "check",
    ...cargo("fmt", "--all", "--check", "--", "--color", "never"),
  },
  {
    name: "lint",
    title: "lints",
    kind: "check",
    ...cargo("clippy", "--workspace", "--all-targets", "--target-dir", TARGET, ...locked, ...STRICT),
  },
  {
    name: "lint-wasm",
    title: "lints for wasm",
    kind: "check",
    ...cargo(
      "clippy",
      "--package",
      "portcullis",
      "--lib",
      "--tests",
      "--target",
      WASM,
      "--target-dir",
      TARGET,
      ...locked,
      ...STRICT,
    ),
  },
  {
    name: "native",
    title: "native tests",
    kind: "cargo",
    // What tests print (such as counts of foreign vectors) is worth keeping in the log.
    ...cargo("test", "--workspace", "--no-fail-fast", "--target-dir", TARGET, ...locked, "--", "--show-output"),
  },
  {
    name: "postgres",
    title: "tests of the services on PostgreSQL",
    kind: "cargo",
    ...cargo("test", "--package", "portcullis-origin", "--no-fail-fast", "--target-dir", TARGET, ...locked),
    needs: "postgres",
  },
  {
    name: "wasm",
    title: "tests in wasm",
    kind: "cargo",
    ...cargo(
      "test",
      "--package",
      "portcullis",
      "--lib",
      "--target",
      WASM,
      "--no-fail-fast",
      "--target-dir",
      TARGET,
      ...locked,
    ),
    env: {
      CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: WASM_TEST_RUNNER,
      // The runner takes the first node on the path.
      PATH: [join(MODULES, ".bin"), process.env.PATH].join(delimiter),
    },
  },
  { name: "scripts", title: "tests of the scripts", ...nodeTests("scripts") },
  { name: "edge", title: "tests in workerd", ...nodeTests("edge"), needs: "edge" },
  { name: "stack", title: "tests of the whole stack", ...nodeTests("stack"), needs: "stack" },
];

function testFiles(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(".test.js"))
    .sort()
    .map((name) => join(folder, name));
}
