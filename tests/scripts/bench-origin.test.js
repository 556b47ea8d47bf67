// The arguments of `npm run bench:origin` and the text of docs/bench-origin.md, without measuring anything.

import assert from "node:assert/strict";
import { test } from "node:test";

import { AIMS, parseArguments, render, summarise } from "../../bench/origin-report.js";
import { isMet } from "../../bench/report.js";
import { insertInto } from "../../scripts/lib/pages.js";

test("arguments are parsed, and invalid ones are refused", () => {
  for (const [args, expected] of [
    [[], { rounds: 5, seconds: 4 }],
    [["--rounds", "3", "--seconds", "20"], { rounds: 3, seconds: 20 }],
    [["--json", "out.json", "--write"], { rounds: 5, seconds: 4, json: "out.json", write: true }],
    [["-h"], { rounds: 5, seconds: 4, help: true }],
    [["--rounds", "0"], /--rounds must be a whole number from 1 to 20/],
    [["--rounds"], /--rounds must be a whole number/],
    [["--rounds", "2.5"], /--rounds must be a whole number/],
    // An assertion would expire during the measurement.
    [["--seconds", "21"], /--seconds must be a whole number from 1 to 20/],
    [["--json"], /--json needs a value/],
    [["--fast"], /"--fast" is not known/],
  ]) {
    if (expected instanceof RegExp) assert.throws(() => parseArguments(args), expected, args.join(" "));
    else assert.deepEqual(parseArguments(args), expected, args.join(" "));
  }
});

const sample = (rate) => ({ rate, p50: 1000, p99: 2000, cpuUs: 100 });

test("a ratio is computed per round, and the median of the rounds is taken", () => {
  for (const [what, floors, logins, expected] of [
    ["one round", [100], [90], 0.9],
    // The ratio of the medians would be 50 / 100.
    ["rounds that differ", [100, 50, 200], [90, 50, 40], 0.9],
    ["an even number", [100, 100], [80, 90], 0.85],
  ]) {
    const rounds = floors.map((floor, index) => ({ floor: sample(floor), login: sample(logins[index]) }));
    assert.equal(summarise(rounds).login.ratio.toFixed(4), expected.toFixed(4), what);
  }
  const [floor, login] = [
    { ...sample(100), cpuUs: 90 },
    { ...sample(100), cpuUs: 100 },
  ];
  assert.equal(summarise([{ floor, login }]).login.cpuRatio, 0.9, "by CPU, the other way about");
  assert.equal(summarise([{ login: sample(1) }]).login.ratio, undefined, "to what was not measured");
  assert.deepEqual(Object.keys(summarise([{ read: sample(1), floor: sample(1) }])), ["floor", "read"]);
});

const RESULT = {
  date: "2026-01-02",
  machine: "2 cores, a processor",
  versions: { rustc: "1.2.3", wrk: "4.5.6" },
  rounds: 5,
  seconds: 4,
  databases: {
    sqlite: {
      floor: { rate: 80.04, p50: 25_000, p99: 30_000, cpuUs: 25_000 },
      login: { rate: 71.6, p50: 50_000, p99: 61_230, cpuUs: 26_000.4, ratio: 0.894, cpuRatio: 0.96 },
    },
  },
  client: { bare_us: 100, plain_us: 104, session_us: 106, plain_ratio: 1.04, session_ratio: 1.06 },
};

test("aims are compared with what was measured", () => {
  const verdicts = AIMS.map((aim) => [aim.what, isMet(aim, RESULT)]);
  assert.deepEqual(verdicts, [
    ["logins to argon2 alone, SQLite", false],
    ["logins to argon2 alone, PostgreSQL", undefined],
    ["a call of `HttpAuthClient` to one of bare reqwest", true],
    ["a call of `AuthenticatedClient` to one of bare reqwest", false],
  ]);
});

test("the page has a line for each aim and measurement", () => {
  const page = render(RESULT);
  for (const line of [
    "Measured on 2026-01-02: 2 cores, a processor; rustc 1.2.3, wrk 4.5.6. Medians of 5 interleaved rounds of 4 s; ratios are paired by round.",
    "|logins to argon2 alone, SQLite|≥ 0.90|**0.89**|",
    "|logins to argon2 alone, PostgreSQL|≥ 0.90|–|",
    "|a call of `HttpAuthClient` to one of bare reqwest|≤ 1.05|1.040|",
    "||SQLite: per second|p99 ms|CPU µs|",
    "|argon2 alone|80.0|30.00|25000|",
    "|`POST /api/v1/auth/login`|71.6|61.23|26000|",
  ]) {
    assert.ok(page.split("\n").includes(line), line);
  }
  assert.ok(!page.includes("PostgreSQL:"), "no columns of what was not measured");
});

test("docs/bench-origin.md has the markers", () => {
  assert.ok(insertInto("docs/bench-origin.md", "bench:origin", "here").includes("\n\nhere\n\n"));
});
