// Independent implementations from PyPI: PyJWT, OpenTelemetry's definitions, a Go compiler. `npm test`
// installs them if there is a Python 3; otherwise the tests that need them are skipped with that reason.

import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";

import { PYTHON, ROOT, TARGET } from "../../scripts/lib/paths.js";

// For node:test's `skip`: false, or the reason.
export const noPython = existsSync(PYTHON)
  ? false
  : "the Python packages are not installed: they need Python 3.11 or newer with venv";

// The Go compiler's environment: this version, no network, and a separate cache.
export const GO_ENV = {
  ...process.env,
  ...{ GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod", GOCACHE: join(TARGET, "go") },
};

// Runs tests/foreign/NAME.py with JSON in and out.
export function python(name, input) {
  const { stdout, stderr, status } = spawnSync(PYTHON, [join(ROOT, "tests", "foreign", `${name}.py`)], {
    input: JSON.stringify(input),
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`${name}.py failed: ${stderr}`);
  return JSON.parse(stdout);
}
