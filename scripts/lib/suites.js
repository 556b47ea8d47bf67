// The suites of `npm test` and of `npm run test:long`: what each runs, and what must not run at the same
// time.

import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

import { LOCKED, cargoPackages } from "./cargo.js";
import { MODULES, NODE, ROOT, TARGET, WASM, WASM_TEST_RUNNER } from "./paths.js";

/**
 * @typedef {{ command: string, args: string[] }} Command
 * @typedef {object} SuiteBase
 * @property {string} name
 * @property {string} title
 * @property {Record<string, string>} [env]
 * @property {"edge" | "stack" | "postgres"} [needs]
 * @property {string[]} [after] tasks that must end first
 * @property {string[]} [holds] resources that only one suite may use at a time
 * @typedef {SuiteBase & { kind: "check", commands: Command[] }} CheckSuite
 * @typedef {SuiteBase & { kind: "cargo" | "node", command: string, args: string[] | (() => string[]) }} TestSuite
 * @typedef {CheckSuite | TestSuite} Suite
 */

// Timeout of one test; the longest takes half a minute.
const TEST_MS = 180_000;

// Timeout of one long test.
const LONG_TEST_MS = 3_600_000;

const STRICT = ["--", "-D", "warnings"];

/**
 * @param {...string} args
 * @returns {Command}
 */
const cargo = (...args) => ({ command: "cargo", args });

/**
 * @param {string} folder
 * @returns {Command}
 */
const checkTypes = (folder) => ({
  command: join(MODULES, ".bin", "tsc"),
  args: ["--pretty", "false", "--project", folder],
});

/**
 * @param {...string} args
 * @returns {Command}
 */
const biome = (...args) => ({ command: join(MODULES, ".bin", "biome"), args });

/**
 * Every cargo command of the tests takes all packages: another set of packages means another set of
 * features, and compiles the services a second time.
 * @param {...string} args
 */
const testAll = (...args) => ["test", "--workspace", "--no-fail-fast", "--target-dir", TARGET, ...LOCKED, ...args];

/** @param {...string} args */
const testWasm = (...args) => [
  ...["test", "--package", "portcullis", "--lib", "--target", WASM, "--no-fail-fast"],
  ...["--target-dir", TARGET, ...LOCKED, ...args],
];

const WASM_ENV = {
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: WASM_TEST_RUNNER,
  // The runner uses the first node on the PATH.
  PATH: [join(MODULES, ".bin"), process.env.PATH].join(delimiter),
};

// Cargo's directory target/debug, which only one cargo at a time can use.
const DEBUG = "target/debug";

// The directory build/: tests of the whole stack replace the worker there for a while, for example with
// the one that is deployed.
const WORKER = "build";

// What must be compiled before a suite runs. Tests that run cargo themselves wait for it too: waiting
// inside a test would count as hanging.
export const TESTS = "tests";
export const POLICIES = "policies";

/**
 * @param {string} folder
 * @param {{ longest?: number }} [options]
 * @returns {{ kind: "node", command: string, args: () => string[] }}
 */
const nodeTests = (folder, { longest = TEST_MS } = {}) => ({
  kind: "node",
  command: NODE,
  args: () => [
    "--test",
    "--test-concurrency=1",
    `--test-timeout=${longest}`,
    `--test-reporter=${join(ROOT, "scripts", "lib", "node-reporter.js")}`,
    ...testFiles(join(ROOT, "tests", folder)),
  ],
});

// Integration tests that are a suite of their own and run once for each database.
const SERVICES = "services";

/**
 * In the order in which lanes take them: cheap and informative suites first, then the slow ones.
 * @type {Suite[]}
 */
export const SUITES = [
  {
    name: "format",
    title: "format",
    kind: "check",
    commands: [
      cargo("fmt", "--all", "--check", "--", "--color", "never"),
      biome("format", "--colors=off", "--max-diagnostics=none", "."),
    ],
  },
  {
    name: "lint",
    title: "lints",
    kind: "check",
    commands: [
      biome("lint", "--colors=off", "--max-diagnostics=none", "--error-on-warnings", "."),
      checkTypes(join("src", "host")),
      checkTypes("cli"),
      checkTypes(join("cli", "serve", "workers")),
      checkTypes(join("packages", "assertion-node")),
      checkTypes("page"),
      checkTypes("scripts"),
      checkTypes("bench"),
      checkTypes("tests"),
      cargo("clippy", "--workspace", "--all-targets", "--target-dir", TARGET, ...LOCKED, ...STRICT),
    ],
    holds: [DEBUG],
  },
  {
    name: "lint-wasm",
    title: "lints for wasm",
    kind: "check",
    commands: [
      cargo(
        ...["clippy", "--package", "portcullis", "--lib", "--tests", "--target", WASM],
        ...["--target-dir", TARGET, ...LOCKED, ...STRICT],
      ),
    ],
    holds: [DEBUG],
  },
  {
    name: "edge",
    title: "tests in workerd",
    ...nodeTests("edge"),
    needs: "edge",
    after: [TESTS, POLICIES],
    holds: [WORKER],
  },
  {
    name: "native",
    title: "native tests",
    kind: "cargo",
    command: "cargo",
    // Keeps the output of tests, such as counts of vectors, in the log.
    args: () => [
      ...testAll("--lib", "--bins"),
      ...integrationTests()
        .filter((name) => name !== SERVICES)
        .flatMap((name) => ["--test", name]),
      ...["--", "--show-output"],
    ],
    after: [TESTS],
  },
  {
    name: "services",
    title: "integration tests on SQLite",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES)),
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "postgres",
    title: "integration tests on PostgreSQL",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES)),
    needs: "postgres",
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "stack",
    title: "tests of the whole stack",
    ...nodeTests("stack"),
    needs: "stack",
    after: [TESTS],
    holds: [WORKER],
  },
  {
    name: "examples",
    title: "examples in the documentation",
    kind: "cargo",
    ...cargo(...testAll("--doc")),
    after: [TESTS],
  },
  {
    name: "wasm",
    title: "tests in wasm",
    kind: "cargo",
    ...cargo(...testWasm()),
    env: WASM_ENV,
    after: [TESTS],
  },
  { name: "scripts", title: "tests of the scripts", ...nodeTests("scripts"), after: [TESTS] },
  {
    name: "packages",
    title: "tests of the npm packages",
    ...nodeTests("packages"),
    needs: "edge",
    after: [TESTS],
    holds: [WORKER],
  },
];

/**
 * The suites of `npm run test:long`: too slow for every change, and for rare failures.
 * @type {Suite[]}
 */
export const LONG_SUITES = [
  {
    name: "long",
    title: "long tests",
    ...nodeTests("long", { longest: LONG_TEST_MS }),
    needs: "edge",
    after: [POLICIES],
  },
  {
    name: "serve",
    title: "tests of the edge against portcullis serve",
    ...nodeTests("edge"),
    env: { EDGE: "serve" },
    needs: "edge",
    after: [POLICIES],
    holds: [WORKER],
  },
  {
    name: "services",
    title: "crash integration tests on SQLite",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES, "--", "crash", "crowd")),
    env: { TEST_LONG: "1" },
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "postgres",
    title: "crash integration tests on PostgreSQL",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES, "--", "crash", "crowd")),
    env: { TEST_LONG: "1" },
    needs: "postgres",
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "api",
    title: "requests generated from the OpenAPI documents",
    ...nodeTests(join("stack", "openapi.test.js"), { longest: LONG_TEST_MS }),
    env: { FUZZ_EXAMPLES: "100" },
    needs: "stack",
  },
];

/**
 * The cargo commands that compile what the suites run, with their environment.
 * @type {{ args: string[], env?: Record<string, string>, for?: string }[]}
 */
export const COMPILE_TESTS = [
  { args: testAll("--no-run") },
  { args: testWasm("--no-run"), env: WASM_ENV, for: "wasm" },
];

/**
 * Returns the names of all packages' integration tests.
 * @returns {string[]}
 */
function integrationTests() {
  return cargoPackages("--no-deps")
    .flatMap(({ targets }) => targets)
    .filter(({ kind }) => kind.includes("test"))
    .map(({ name }) => name);
}

/**
 * @param {string} path
 * @returns {string[]}
 */
function testFiles(path) {
  if (path.endsWith(".test.js")) return [path];
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".test.js"))
    .sort()
    .map((name) => join(path, name));
}
