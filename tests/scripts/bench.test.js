// The text of docs/bench.md: aims are compared with what was measured, and what was not measured is not
// met.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

import { EmbeddedJWK, calculateJwkThumbprint, decodeJwt, jwtVerify } from "jose";

import { writeRequest } from "../../bench/bursts.js";
import { BODY, TABLES, addTo, formOf } from "../../bench/options.js";
import { sharesOf } from "../../bench/profile.js";
import { AIMS, chart, isMet, render, renderOptions } from "../../bench/report.js";
import { insertInto } from "../../scripts/lib/pages.js";
import { ROOT } from "../../scripts/lib/paths.js";

const TITLES = { pass: "pass-through Worker", gateway: "Portcullis", jose: "jose Worker", hono: "Hono Worker" };
const measured = (toPass, toJose, cpuUs = 400) => ({
  rate: 5000,
  cpuUs,
  p50: 5000,
  p99: 9000,
  rss: 2 ** 26,
  toPass,
  toJose,
});
const RESULT = {
  date: "2026-01-02",
  machine: "2 cores",
  versions: { workerd: "1", jose: "2", hono: "3" },
  rounds: 5,
  seconds: 4,
  profiles: {
    remembered: {
      pass: measured(1),
      gateway: measured(0.77, 1.08),
      jose: measured(0.6, 1),
    },
    "routes-10": { pass: measured(1), gateway: measured(0.8) },
    "routes-10000": { pass: measured(1), gateway: measured(0.78) },
  },
  contention: { gateway: { honest: 5000, hostile: 5100, ratio: 1.02 } },
  starts: { pass: 100, bound: 110, gateway: 160 },
  paced: { pass: { p50: 1000, p99: 2000 }, gateway: { p50: 1210, p99: 2340 } },
  memory: {
    gateway: { warm: { requests: 100_500, rss: 100 * 2 ** 20 }, end: { requests: 1_000_100, rss: 111 * 2 ** 20 } },
  },
  stages: {
    remembered: [
      { name: "pass", title: "pass-through Worker", cpuUs: 300, ratio: 1, isStep: false },
      { name: "step-fetch", title: "fetch", cpuUs: 270, ratio: 0.9, isStep: true },
      { name: "glue", title: "JavaScript", cpuUs: 420, ratio: 1.4, isStep: true },
      { name: "gateway", title: "Portcullis", cpuUs: 480, ratio: 1.6, isStep: true },
      { name: "jose", title: "jose Worker", cpuUs: 435, ratio: 1.45, isStep: false },
    ],
  },
  wasm: { bytes: 900_000, gzipped: 330_000 },
};

test("aims are compared with what was measured", () => {
  const verdicts = Object.fromEntries(AIMS.map((aim) => [aim.what, isMet(aim, RESULT)]));
  assert.equal(verdicts["tokens that repeat, to pass-through"], false, "0.77 of 0.78");
  assert.equal(verdicts["tokens that repeat, to jose"], true, "1.08 of 1.08");
  assert.equal(verdicts["a policy of 10,000 routes to one of 10"], true, "0.78 / 0.80 = 0.975");
  const start = "start to first answer, to pass-through with the gateway's bindings";
  assert.equal(verdicts[start], false, "1.45 of 1.40");
  assert.equal(verdicts["CPU µs of the wasm and its crossings, where pass-through takes 160"], false, "32 of 22");
  assert.equal(
    verdicts["latency of an honest client with hostile ones, to that with honest ones"],
    false,
    "1.02 of 1.00",
  );
  assert.equal(verdicts["memory after a million requests, to a tenth of them"], false, "1.11 of 1.10");
  assert.equal(verdicts["wasm, gzipped, in KB"], true, "330 of 330");
  assert.equal(verdicts["distinct RS256 tokens, to jose"], undefined);
});

test("the page names each aim with its verdict, and the chart each Worker", () => {
  const page = render(RESULT, TITLES);
  assert.match(page, /\|tokens that repeat, to pass-through\|≥ 0\.78\|\*\*0\.77\*\*\|/);
  assert.match(page, /\|tokens that repeat, to jose\|≥ 1\.08\|1\.08\|/);
  assert.match(page, /\|distinct ES256 tokens, to jose\|≥ 1\.00\|–\|/);
  const rows = page.split("\n").filter((line) => line.startsWith("|Portcullis|"));
  assert.deepEqual(rows, [
    "|Portcullis|5000|",
    "|Portcullis|400|",
    "|Portcullis|9.00|",
    "|Portcullis|1.21|2.34|",
    "|Portcullis|256|32|",
    "|Portcullis|160|",
    "|Portcullis|0.300|0.008|0.060|",
  ]);
  const svg = chart(RESULT, TITLES);
  for (const text of ["Portcullis", "jose Worker", "tokens that repeat", ">0.77<"]) assert.ok(svg.includes(text), text);
});

test("a profile has the share of each category for each process", () => {
  const report = [
    "# comment",
    "30.00%\t  7:workerd\tworkerd\t[.] v8::internal::Factory::New",
    "10.00%\t  7:workerd\t[kernel.kallsyms]\t[k] tcp_ack",
    "10.00%\t  7:workerd\t[JIT] tid 7\t[.] JS:portcullis::decide-151-turbofan",
    "50.00%\t  8:workerd\t[JIT] tid 8\t[.] JS:*fetch index.js",
  ].join("\n");
  const ofOne = sharesOf(report, [7]);
  assert.equal(ofOne.V8.toFixed(2), "0.60");
  assert.equal(ofOne.system.toFixed(2), "0.20");
  assert.equal(ofOne.wasm.toFixed(2), "0.20");
  assert.equal(ofOne.JavaScript, 0);
  assert.equal(sharesOf(report, [8]).JavaScript, 1);
  const categories = [{ name: "gateway", title: "Portcullis", cpuUs: 0, ratio: 2, shares: ofOne }];
  assert.match(render({ ...RESULT, categories }, TITLES), /\|wasm\|64\|/);
});

test("the part about options has its own date, and a ratio for each row", () => {
  const { date, machine, versions } = RESULT;
  const rows = [
    { title: "without an option", cpuUs: 300, ratio: 1 },
    { title: "assertion by ES256", cpuUs: 345.4, ratio: 1.151 },
  ];
  const part = renderOptions({ date, machine, versions, bursts: 300, tables: [{ title: "GET", rows }] });
  assert.equal(
    part,
    `Measured on 2026-01-02: 2 cores; workerd 1. Medians of 300 bursts; ratios are paired by burst.

**GET**

||CPU µs per request|ratio|
|---|--:|--:|
|without an option|300|1.00|
|assertion by ES256|345|1.15|`,
  );
});

test("the first row of each table is without options, and rows of one policy share its build", () => {
  const additions = new Map();
  for (const { rows } of TABLES) {
    assert.equal(rows[0].additions, undefined);
    for (const row of rows) {
      assert.equal(additions.get(row.build) ?? row.additions, row.additions, row.build);
      additions.set(row.build, row.additions);
    }
  }
  assert.ok(BODY.length > 900 && BODY.length < 1100, `${BODY.length} bytes`);
});

test("an option is added after its line or replaces what follows it, which the policy must have", () => {
  const policy = "# policy\n[upstreams.users]\nurl = 1\n";
  const added = addTo(policy, [
    ["[upstreams.users]\n", "a = 1"],
    ["", "b = 2"],
    [undefined, "[c]"],
  ]);
  assert.equal(added, "b = 2\n# policy\n[upstreams.users]\na = 1\nurl = 1\n\n[c]\n");
  const replaced = addTo(policy, [["[upstreams.users]\n", "a = 1", "\n"]]);
  assert.equal(replaced, "# policy\n[upstreams.users]\na = 1\n\n");
  assert.throws(() => addTo(policy, [["[upstreams.users]\n", "a = 1", "[c]"]]), /has no \[c\]/);
  assert.throws(() => addTo(policy, [["[upstreams.auth]\n", "a = 1"]]), /has no \[upstreams\.auth\]/);
});

for (const proof of ["ES256", "EdDSA"]) {
  test(`each request with a proof by ${proof} has another one, of its token, for the key that tokens are bound to`, async () => {
    const { jkt, form } = formOf({ build: "", title: "", proof }, BODY);
    const read = () => {
      const [head, body] = writeRequest("/api/v1/users/1 a.b.c", form);
      assert.equal(body, BODY);
      const [first, ...lines] = head.trimEnd().split("\r\n");
      assert.equal(first, "PUT /api/v1/users/1 HTTP/1.1");
      return Object.fromEntries(lines.map((line) => line.split(": ", 2)));
    };
    const [one, two] = [read(), read()];
    assert.equal(one.Authorization, "DPoP a.b.c");
    assert.equal(Number(one["Content-Length"]), BODY.length);
    const { payload, protectedHeader } = await jwtVerify(one.DPoP, EmbeddedJWK, {
      typ: "dpop+jwt",
      algorithms: [proof],
    });
    assert.equal(await calculateJwkThumbprint(protectedHeader.jwk), jkt);
    assert.deepEqual([payload.htm, payload.htu], ["PUT", "https://gateway.test/api/v1/users/1"]);
    assert.notEqual(decodeJwt(two.DPoP).jti, payload.jti);
  });
}

test("a request without a form is a GET with a bearer token", () => {
  assert.deepEqual(writeRequest("/a a.b.c"), [
    "GET /a HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer a.b.c\r\n\r\n",
  ]);
});

for (const [args, message] of [
  [["--only", "options,distinct"], /--only options goes with no profile: it measures nothing else\.$/],
  [["--only", "options", "--million"], /--million has no effect with --only options\.$/],
  [["--only", "options", "--seconds", "2"], /--seconds has no effect with --only options\.$/],
  [["--only", "option"], /--only: "option" is not known; the names are: .*, options\.$/],
]) {
  test(`npm run bench -- ${args.join(" ")} is refused`, () => {
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, "bench", "run.js"), ...args], {
      encoding: "utf8",
    });
    assert.equal(status, 2, stderr);
    assert.match(stderr.trim(), message);
  });
}

test("docs/bench.md has the markers", () => {
  for (const flags of [undefined, "--only options"])
    assert.ok(insertInto("docs/bench.md", "bench", "here", flags).includes("\n\nhere\n\n"));
});
