// The suites of `npm test` and of `npm run test:long`: what each runs, and what must not
// run while it does.

import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

import { MODULES, NODE, ROOT, TARGET, WASM, WASM_TEST_RUNNER } from "./paths.js";

// Ends a test that would never end; the longest takes half a minute.
const TEST_MS = 180_000;

// The same for tests that are long on purpose.
const LONG_TEST_MS = 3_600_000;

const STRICT = ["--", "-D", "warnings"];

const cargo = (...args) => ({ command: "cargo", args });

const checkTypes = (folder) => ({
  command: join(MODULES, ".bin", "tsc"),
  args: ["--pretty", "false", "--project", folder],
});

const biome = (...args) => ({ command: join(MODULES, ".bin", "biome"), args });

const locked = process.env.CI ? ["--locked"] : [];

// Every cargo command of the tests takes all packages: another choice of packages is another
// choice of features, and compiles the services a second time.
const testAll = (...args) => ["test", "--workspace", "--no-fail-fast", "--target-dir", TARGET, ...locked, ...args];

const testWasm = (...args) => [
  ...["test", "--package", "portcullis", "--lib", "--target", WASM, "--no-fail-fast"],
  ...["--target-dir", TARGET, ...locked, ...args],
];

const WASM_ENV = {
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER: WASM_TEST_RUNNER,
  // The runner takes the first node on the path.
  PATH: [join(MODULES, ".bin"), process.env.PATH].join(delimiter),
};

// Cargo's folder target/debug, which one cargo at a time compiles into; the others wait.
const DEBUG = "target/debug";

// The folder build/: tests of the whole stack put other builds of the worker there for a
// while, such as the one that is deployed.
const WORKER = "build";

// What has to be compiled before a suite runs. Tests that call cargo themselves wait for it,
// too: in a test, waiting for another cargo would count as hanging.
export const TESTS = "tests";
export const POLICIES = "policies";

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

// Integration tests of cargo's that are a suite of their own: run once for each database.
const SERVICES = "services";

// In the order in which lanes take them up: what is cheap and says most first, then what
// takes longest.
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
      cargo("clippy", "--workspace", "--all-targets", "--target-dir", TARGET, ...locked, ...STRICT),
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
        ...["--target-dir", TARGET, ...locked, ...STRICT],
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
    // What tests print (such as counts of foreign vectors) is worth keeping in the log.
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
    title: "tests of the services on SQLite",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES)),
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "postgres",
    title: "tests of the services on PostgreSQL",
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
];

// What `npm run test:long` runs: what is too long for every change and finds what is rare.
export const LONG_SUITES = [
  ...(testFiles(join(ROOT, "tests", "long")).length === 0
    ? []
    : [
        {
          name: "long",
          title: "long tests",
          ...nodeTests("long", { longest: LONG_TEST_MS }),
          needs: "edge",
          after: [POLICIES],
        },
      ]),
  {
    name: "services",
    title: "services that are killed, on SQLite",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES, "--", "crash", "crowd")),
    env: { TEST_LONG: "1" },
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "postgres",
    title: "services that are killed, on PostgreSQL",
    kind: "cargo",
    ...cargo(...testAll("--test", SERVICES, "--", "crash", "crowd")),
    env: { TEST_LONG: "1" },
    needs: "postgres",
    after: [TESTS],
    holds: [SERVICES],
  },
  {
    name: "api",
    title: "requests made up from the services' descriptions",
    ...nodeTests(join("stack", "openapi.test.js"), { longest: LONG_TEST_MS }),
    env: { FUZZ_EXAMPLES: "100" },
    needs: "stack",
  },
];

// The cargo commands that compile what the suites run, with their environment.
export const COMPILE_TESTS = [
  { args: testAll("--no-run") },
  { args: testWasm("--no-run"), env: WASM_ENV, for: "wasm" },
];

// Names of all packages' integration tests.
function integrationTests() {
  const { stdout, status } = spawnSync("cargo", ["metadata", "--no-deps", "--format-version", "1", ...locked], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  if (status !== 0) throw new Error("cargo metadata failed");
  return JSON.parse(stdout)
    .packages.flatMap(({ targets }) => targets)
    .filter(({ kind }) => kind.includes("test"))
    .map(({ name }) => name);
}

function testFiles(path) {
  if (path.endsWith(".test.js")) return [path];
  if (!existsSync(path)) return [];
  return readdirSync(path, { recursive: true })
    .filter((name) => name.endsWith(".test.js"))
    .sort()
    .map((name) => join(path, name));
}
