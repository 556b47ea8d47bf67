// The packages that check assertions, by the table of tests/vectors for all languages. The Rust client reads it in
// client/tests/published.rs.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { GO, PYTHON, ROOT } from "../../scripts/lib/paths.js";
import { AssertionError, createVerifier } from "../../packages/assertion-node/index.js";
import { GO_ENV, noPython } from "../harness/python.js";
import { fileScope, testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const table = JSON.parse(readFileSync(join(ROOT, "tests", "vectors", "assertions.json"), "utf8"));
const KEY_SET = "GET /_gateway/jwks.json";
const { audience } = table;

const find = (algorithm, name) => table.cases.find((one) => one.algorithm === algorithm && one.name === name);

// A case's request as node:http and as the Fetch standard have it.
const FORMS = {
  node: ({ method, target, assertion }) => ({ method, url: target, headers: { "x-gateway-assertion": assertion } }),
  fetch: ({ method, target, assertion }) => ({
    method,
    url: `https://shop.example${target}`,
    headers: new Headers(assertion === undefined ? {} : { "x-gateway-assertion": assertion }),
  }),
};

// The status of the answer to a case's request.
async function statusOf(verify, one, form = FORMS.node) {
  try {
    await verify(form(one));
    return 200;
  } catch (error) {
    assert.ok(error instanceof AssertionError, error);
    return error.status;
  }
}

async function startGateway(scope) {
  const gateway = await startUpstream(scope);
  gateway.answer(KEY_SET, { json: table.jwks });
  return gateway;
}

describe("the package for Node", () => {
  const scope = fileScope();
  let gateway;

  before(async () => {
    gateway = await startGateway(scope);
  });

  for (const algorithm of ["HS256", "ES256", "EdDSA"])
    test(`${algorithm}: takes the good assertions of the table, and no other`, async (t) => {
      const keys = algorithm === "HS256" ? { keys: table.secrets } : { algorithm };
      const verify = createVerifier({ audience, gateway: gateway.url, ...keys });
      const cases = table.cases.filter((one) => one.algorithm === algorithm);
      assert.ok(cases.length > 40);
      t.mock.timers.enable({ apis: ["Date"], now: 0 });
      for (const one of cases) {
        t.mock.timers.setTime(one.at * 1000);
        for (const [name, form] of Object.entries(FORMS))
          assert.equal(
            await statusOf(verify, one, form),
            { ok: 200, refused: 401 }[one.expected],
            `${one.name}, ${name}`,
          );
      }
    });

  test("takes the valid settings of the table, and no other", () => {
    for (const { name, setting, isValid } of table.settings) {
      const make = () => createVerifier({ audience, gateway: "https://api.example.com", keys: setting });
      if (isValid) make();
      else assert.throws(make, { name: "TypeError", message: /^keys must be/ }, name);
    }
  });

  test("refuses a text that is too long for an assertion", async () => {
    const verify = createVerifier({ audience, gateway: gateway.url, keys: table.secrets });
    assert.equal(await statusOf(verify, { method: "GET", target: "/", assertion: "x".repeat(48 * 1024 + 1) }), 401);
  });

  test("fetches keys once per cool-down for unknown kids, and uses them for 300 s", async (t) => {
    const own = await startGateway(testScope(t));
    const fetches = () => own.requests.filter(({ path }) => path === "/_gateway/jwks.json").length;
    const good = find("ES256", "as made");
    const verify = createVerifier({ audience, gateway: own.url });
    t.mock.timers.enable({ apis: ["Date"], now: good.at * 1000 });
    for (const name of ["without kid", "an access token", "by the public key as a secret", "two dots"])
      assert.equal(await statusOf(verify, find("ES256", name)), 401);
    assert.equal(fetches(), 0, "refused by their form");
    const flood = async () => {
      for (let count = 0; count < 20; count += 1)
        assert.equal(await statusOf(verify, find("ES256", "of an unknown key")), 401);
    };
    await flood();
    assert.equal(fetches(), 1);
    t.mock.timers.tick(30_000);
    await flood();
    assert.equal(fetches(), 2);
    own.answer(KEY_SET, { status: 503 });
    t.mock.timers.setTime((good.at + 59) * 1000);
    assert.equal(await statusOf(verify, good), 200, "the keys at hand");
    t.mock.timers.setTime((good.at + 331) * 1000);
    assert.equal(await statusOf(verify, good), 503);
  });
});

// Runs a program, and shows its output if it fails.
function run(program, args, options) {
  const { status, stdout, stderr } = spawnSync(program, args, { encoding: "utf8", ...options });
  assert.equal(status, 0, `${stdout}${stderr}`);
  return `${stdout}${stderr}`;
}

test("the tests of the package for Python pass", { skip: noPython }, () => {
  const out = run(PYTHON, ["-B", "-m", "unittest", "discover", "--start-directory", "tests"], {
    cwd: join(ROOT, "packages", "assertion-python"),
  });
  assert.match(out, /\nOK\n/);
});

test("the tests of the module for Go pass, it is formatted, and vet finds no fault", { skip: noPython }, () => {
  const options = { cwd: join(ROOT, "packages", "assertion-go"), env: GO_ENV };
  assert.match(run(GO, ["test", "-count=1", "./..."], options), /^ok\s/);
  run(GO, ["vet", "./..."], options);
  const gofmt = join(run(GO, ["env", "GOROOT"], options).trim(), "bin", "gofmt");
  assert.equal(run(gofmt, ["-l", "."], options), "");
});

// tests/edge/documents.test.js runs docs/examples/service.mjs.
for (const page of ["docs/quick-start-workers.md", "packages/assertion-node/README.md"])
  test(`the service of ${page} is the tested one`, () => {
    const [, shown] = /```js\n(import \{ createServer [\s\S]*?)```/.exec(readFileSync(join(ROOT, page), "utf8"));
    const bare = (text) =>
      text
        .replace(/ +\/\/ .*$/gm, "")
        .replace(/gateway: "[^"]*"/, "gateway")
        .replace(/listen\(.*, "127/, 'listen("127')
        .replace("\\n`", "`");
    assert.equal(bare(shown), bare(readFileSync(join(ROOT, "docs", "examples", "service.mjs"), "utf8")));
  });
