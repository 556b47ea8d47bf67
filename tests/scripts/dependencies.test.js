// What the suite `dependencies` accepts and refuses, and that a check whose service is unreachable is
// skipped with the reason.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { faultsOfLock, faultsOfRequirements, judgeAdvisories, judgeAudit } from "../../scripts/lib/dependencies.js";
import { PYTHON_NEEDS, ROOT } from "../../scripts/lib/paths.js";

const readJson = (name) => JSON.parse(readFileSync(join(ROOT, name), "utf8"));

describe("npm packages", () => {
  test("the project's lock file has a hash for each package, and names no registry", () => {
    assert.deepEqual(faultsOfLock(readJson("package-lock.json"), readJson("package.json")), []);
  });

  test("npm runs no install script, and writes no registry into the lock file", () => {
    const settings = readFileSync(join(ROOT, ".npmrc"), "utf8");
    assert.match(settings, /^ignore-scripts=true$/m);
    assert.match(settings, /^omit-lockfile-registry-resolved=true$/m);
  });

  const good = { integrity: "sha512-x" };
  for (const [title, entry, allowScripts, expected] of [
    ["with a hash is taken", good, {}, []],
    ["without a hash is refused", {}, {}, [/one has no hash/]],
    [
      "from a named registry is refused",
      { ...good, resolved: "https://npm.example/one.tgz" },
      {},
      [/names the registry/],
    ],
    ["with an install script is refused", { ...good, hasInstallScript: true }, {}, [/install script/]],
    [
      "whose install script is allowed is refused",
      { ...good, hasInstallScript: true },
      { one: true },
      [/install script/],
    ],
    ["whose install script is not run is taken", { ...good, hasInstallScript: true }, { one: false }, []],
  ]) {
    test(`a package ${title}`, () => {
      const lock = { packages: { "": {}, "node_modules/two/node_modules/one": entry } };
      const faults = faultsOfLock(lock, { allowScripts });
      assert.equal(faults.length, expected.length, faults.join());
      for (const [index, pattern] of expected.entries()) assert.match(faults[index], pattern);
    });
  }
});

describe("Python packages", () => {
  test("the project's list has a version and hashes for each", () => {
    assert.equal(faultsOfRequirements(readFileSync(PYTHON_NEEDS, "utf8")), undefined);
  });

  const hash = `--hash=sha256:${"0".repeat(64)}`;
  for (const [text, expected] of [
    [`one==1.0 \\\n    ${hash} \\\n    ${hash}\n    # via two\n`, undefined],
    [`one[extra]==1.0 ; sys_platform == 'win32' \\\n    ${hash}\n`, undefined],
    ["one==1.0\n", /one==1.0 has no version or no hash/],
    [`one>=1.0 ${hash}\n`, /one>=1.0/],
    ["# nothing\n", /no requirement/],
  ]) {
    test(`${JSON.stringify(text.slice(0, 30))} is ${expected === undefined ? "taken" : "refused"}`, () => {
      const fault = faultsOfRequirements(text);
      if (expected === undefined) assert.equal(fault, undefined);
      else assert.match(fault, expected);
    });
  }
});

describe("known vulnerabilities", () => {
  for (const [title, answer, expected] of [
    ["of crates without a finding are none", { code: 0, output: "advisories ok" }, {}],
    ["of crates fail", { code: 1, output: "error[vulnerability]: bad" }, { failure: /vulnerability/ }],
    [
      "of crates are skipped without a network",
      { code: 1, output: "[ERROR] failed to fetch advisory database x\nfatal: unable to access 'x': no network" },
      { skip: /RustSec.*unable to access/ },
    ],
  ]) {
    test(title, () => matches(judgeAdvisories(answer), expected));
  }

  const advisory = (severity) => ({
    vulnerabilities: {
      one: {
        name: "one",
        via: [{ source: 1, title: "Reads too much", severity, url: "https://github.com/advisories/GHSA-aaaa" }],
      },
      two: { name: "two", via: ["one"] },
    },
  });
  for (const [title, report, accepted, expected] of [
    ["of npm packages without a finding are none", { vulnerabilities: {} }, {}, {}],
    ["of npm packages fail once each", advisory("high"), {}, { failure: /^one: Reads too much \(high, GHSA-aaaa\)$/ }],
    ["of npm packages that are accepted for a reason pass", advisory("high"), { "GHSA-aaaa": "why" }, {}],
    ["of npm packages that are slight pass", advisory("low"), {}, {}],
    [
      "of npm packages are skipped where the registry has no such list",
      { message: "405 Method Not Allowed - POST https://npm.example/audit", statusCode: 405 },
      {},
      { skip: /does not list known vulnerabilities \(405 Method Not Allowed\)$/ },
    ],
    ["of npm packages are skipped without a network", { error: { code: "ENOTFOUND" } }, {}, { skip: /ENOTFOUND/ }],
  ]) {
    test(title, () => matches(judgeAudit({ output: JSON.stringify(report) }, accepted), expected));
  }

  function matches(found, expected) {
    assert.deepEqual(Object.keys(found), Object.keys(expected));
    for (const [name, pattern] of Object.entries(expected)) assert.match(found[name], pattern);
  }
});
