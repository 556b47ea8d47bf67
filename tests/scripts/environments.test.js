// The environments of wrangler.toml, and the checks before a deployment.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { environmentFaults, environmentOf } from "../../cli/lib/environments.js";
import { readWranglerFile } from "../../cli/lib/project-policy.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { compilePolicy } from "../../scripts/lib/policy-tool.js";
import { temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";
import { runScript } from "../harness/scripts.js";

const NAMES = ["staging", "production"];
const OF = { staging: "gateway.staging.shop.dev", production: "gateway.shop.dev" };

let wrangler, policy;

before(async () => {
  wrangler = await readWranglerFile(ROOT);
  policy = JSON.parse(await compilePolicy("gateway.toml"));
});

// The committed file with what an operator writes into it.
function completed() {
  const copy = structuredClone(wrangler);
  for (const [index, name] of NAMES.entries()) {
    const { vars, kv_namespaces: stores } = copy.env[name];
    copy.env[name].routes = [{ pattern: OF[name], custom_domain: true }];
    vars.UPSTREAM_AUTH_URL = `https://auth.${name}.shop.dev`;
    vars.UPSTREAM_USERS_URL = `https://a.${name}.shop.dev, https://b.${name}.shop.dev`;
    stores[0].id = `${index + 1}`.repeat(32);
  }
  return copy;
}

describe("the environments of wrangler.toml", () => {
  test("have the bindings of the top level, and no id of another one", () => {
    const all = [wrangler, ...NAMES.map((name) => environmentOf(wrangler, name))];
    const bindings = all.map(({ kv_namespaces, durable_objects, ratelimits, version_metadata, vars }) => ({
      stores: kv_namespaces.map(({ binding }) => binding),
      objects: durable_objects.bindings,
      limits: ratelimits.map(({ name, simple }) => ({ name, simple })),
      version: version_metadata,
      vars: Object.keys(vars),
    }));
    for (const [index, name] of NAMES.entries()) assert.deepEqual(bindings[index + 1], bindings[0], name);
    const ids = all.flatMap(({ kv_namespaces: stores }) => stores.map(({ id }) => id));
    const limits = all.flatMap(({ ratelimits }) => ratelimits.map(({ namespace_id }) => namespace_id));
    for (const list of [ids, limits]) assert.equal(new Set(list).size, list.length, list.join(" "));
    assert.ok(all.flatMap(({ durable_objects: { bindings: list } }) => list).every((object) => !object.script_name));
  });

  test("are Workers of their own with all bindings, as wrangler reads the file", () => {
    process.env.WRANGLER_LOG = "none";
    const { unstable_readConfig: read } = createRequire(import.meta.url)("wrangler");
    for (const env of NAMES) {
      const config = read({ config: "wrangler.toml", env });
      assert.equal(config.name, `portcullis-${env}`);
      assert.equal(config.kv_namespaces.length, 1);
      assert.equal(config.durable_objects.bindings.length, 2);
      assert.equal(config.ratelimits.length, 3);
      assert.equal(config.version_metadata.binding, "CF_VERSION_METADATA");
      assert.deepEqual(config.migrations, wrangler.migrations);
    }
  });
});

describe("an environment", () => {
  test("can be deployed once ids, URLs and routes are written", () => {
    for (const name of NAMES) assert.deepEqual(environmentFaults(completed(), name, policy), []);
  });

  test("as committed names each value to write", () => {
    assert.deepEqual(environmentFaults(wrangler, "production", policy), [
      "wrangler.toml: production: the id of KEYS is a placeholder; run: npx wrangler kv namespace create KEYS",
      'wrangler.toml: production: it has no routes; write routes = [{ pattern = "…" }]',
      "wrangler.toml: production: the URL of upstream auth is on loopback; set UPSTREAM_AUTH_URL in vars",
      "wrangler.toml: production: the URL of upstream users is on loopback; set UPSTREAM_USERS_URL in vars",
    ]);
  });

  for (const [what, change, expected] of [
    ["a missing namespace", ({ own }) => delete own.kv_namespaces, "kv_namespaces lacks KEYS"],
    ["a missing object", ({ own }) => own.durable_objects.bindings.pop(), "durable_objects.bindings lacks METRICS"],
    [
      "a missing limit",
      ({ own }) => own.ratelimits.shift(),
      "ratelimits lacks LIMIT_LOGIN; bindings are not inherited",
    ],
    ["a missing version", ({ own }) => delete own.version_metadata, "version_metadata lacks CF_VERSION_METADATA"],
    [
      "a limit of the policy alone",
      ({ document }) => Object.assign(document.limits, { by_user: {}, "per-user": {} }),
      "ratelimits lacks LIMIT_PER_USER, which the policy needs",
    ],
    [
      "a namespace of another environment",
      ({ own, other }) => (own.kv_namespaces[0].id = other.kv_namespaces[0].id),
      "KEYS shares its id with staging",
    ],
    [
      "the objects of another Worker",
      ({ own }) => (own.durable_objects.bindings[0].script_name = "portcullis-staging"),
      "REVOCATIONS uses the objects of the Worker portcullis-staging",
    ],
    [
      "a limit of another environment",
      ({ own, other }) => (own.ratelimits[0].namespace_id = other.ratelimits[1].namespace_id),
      "LIMIT_LOGIN shares namespace_id 2003 with staging",
    ],
    [
      "a limit of the top level",
      ({ own, top }) => (own.ratelimits[0].namespace_id = top.ratelimits[0].namespace_id),
      "LIMIT_LOGIN shares namespace_id 1001 with the top level",
    ],
    [
      "two limits with one counter",
      ({ own }) => (own.ratelimits[1].namespace_id = own.ratelimits[0].namespace_id),
      "LIMIT_REFRESH and LIMIT_LOGIN share namespace_id 3001",
    ],
    ["the name of another Worker", ({ own }) => (own.name = "portcullis"), "it has the Worker name of the top level"],
    ["no route", ({ own }) => (own.routes = []), "it has no routes"],
    [
      "an example as a route",
      ({ own }) => (own.routes = ["gateway.example.com/*"]),
      "the route gateway.example.com/* is",
    ],
    [
      "a route of another environment",
      ({ own, other }) => (own.routes = other.routes),
      "it shares the route gateway.st",
    ],
    ["the development mode", ({ vars }) => (vars.DEVELOPMENT = "true"), "DEVELOPMENT must not be true"],
    ["a secret in a file", ({ vars }) => (vars.METRICS_TOKEN = "x".repeat(16)), "METRICS_TOKEN is a secret"],
    [
      "the secret of operators in a file",
      ({ vars }) => (vars.OPERATORS_TOKEN = "x".repeat(16)),
      "OPERATORS_TOKEN is a secret",
    ],
    [
      "no route to the operators' page",
      ({ vars }) => (vars.OPERATORS_HOST = "operators.shop.dev"),
      "no route has the host of OPERATORS_HOST, operators.shop.dev",
    ],
    [
      "the operators' page at the only host",
      ({ vars }) => (vars.OPERATORS_HOST = OF.production),
      "OPERATORS_HOST is the policy's own host",
    ],
    [
      "the operators' page at the public host",
      ({ own, vars, document }) => {
        own.routes.push("operators.shop.dev/*");
        vars.OPERATORS_HOST = OF.production;
        document.public_url = `https://${OF.production}`;
      },
      "OPERATORS_HOST is the policy's own host",
    ],
    ["plain HTTP", ({ vars }) => (vars.UPSTREAM_AUTH_URL = "http://auth.shop.dev"), "upstream auth is not https://"],
    ["IPv6 loopback", ({ vars }) => (vars.UPSTREAM_AUTH_URL = "https://[::1]:1"), "upstream auth is on loopback"],
    [
      "one target on loopback",
      ({ vars }) => (vars.UPSTREAM_USERS_URL = "https://a.shop.dev,http://localhost:8081"),
      "the URL of upstream users is on loopback; set UPSTREAM_USERS_URL in vars",
    ],
    [
      "the issuer of developers",
      ({ document }) => (document.issuers.development = { issuer: "http://127.0.0.1:1" }),
      "issuer development is for development",
    ],
    [
      "keys of an issuer on loopback",
      ({ document }) => (document.issuers.users = { issuer: "https://id.shop.dev", jwks_url: "http://localhost:1/k" }),
      "the jwks_url of issuer users is on loopback",
    ],
    [
      "an example as an authorizer",
      ({ document }) => (document.authorizers = { "pdp-a": { url: "https://pdp.example/access" } }),
      "the URL of authorizer pdp-a is an example; set AUTHORIZER_PDP_A_URL in vars",
    ],
  ]) {
    test(`with ${what} cannot be deployed`, () => {
      const top = completed();
      const { production: own, staging: other } = top.env;
      const document = structuredClone(policy);
      change({ own, other, top, vars: own.vars, document });
      const faults = environmentFaults(top, "production", document);
      assert.ok(faults.length > 0 && faults.every((fault) => fault.startsWith("wrangler.toml: production: ")));
      assert.ok(
        faults.some((fault) => fault.includes(expected)),
        faults.join("\n"),
      );
    });
  }

  test("serves the operators' page at a host of its own", () => {
    for (const route of [
      "operators.shop.dev/*",
      { pattern: "operators.shop.dev", custom_domain: true },
      "*.shop.dev/*",
    ]) {
      const top = completed();
      top.env.production.routes.push(route);
      top.env.production.vars.OPERATORS_HOST = "operators.shop.dev";
      const document = { ...structuredClone(policy), public_url: `https://${OF.production}` };
      assert.deepEqual(environmentFaults(top, "production", document), []);
    }
  });

  test("on workers.dev needs no route, and an upstream with a binding no URL", () => {
    const top = completed();
    Object.assign(top.env.production, { routes: undefined, workers_dev: true });
    delete top.env.production.vars.UPSTREAM_AUTH_URL;
    const document = structuredClone(policy);
    document.upstreams.auth = { binding: "AUTH" };
    assert.deepEqual(environmentFaults(top, "production", document), []);
  });
});

// Stands for Cloudflare's API, of which wrangler asks for the names of the secrets.
async function startApi(t, secrets) {
  const asked = [];
  const server = createServer((request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.setHeader("content-type", "application/json");
    const result = secrets.map((name) => ({ name, type: "secret_text" }));
    response.end(JSON.stringify({ success: true, errors: [], messages: [], result }));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const env = {
    CLOUDFLARE_API_BASE_URL: `http://127.0.0.1:${server.address().port}`,
    CLOUDFLARE_API_TOKEN: "a-token-of-the-test",
    CLOUDFLARE_ACCOUNT_ID: "0".repeat(32),
  };
  return { asked, env };
}

test("secrets lists which ones an environment has", async (t) => {
  for (const [set, code, state] of [
    [["ASSERTION_KEYS_AUTH"], 1, "missing"],
    [["ASSERTION_KEYS_AUTH", "ASSERTION_KEYS_USERS", "OTHER"], 0, "present"],
  ]) {
    const { asked, env } = await startApi(t, set);
    const ended = await runScript("secrets", ["--env", "production"], { env }).ended;
    assert.equal(ended.code, code, ended.err);
    assert.ok(
      asked.some((line) => line.includes("/workers/scripts/portcullis-production/secrets")),
      asked.join("\n"),
    );
    assert.deepEqual(ended.out.trim().split("\n"), [
      "present  ASSERTION_KEYS_AUTH",
      `${state.padEnd(8)} ASSERTION_KEYS_USERS`,
    ]);
  }
});

const DEVELOPMENT = `[issuers.development]
issuer = "http://127.0.0.1:8788"
audience = ["api"]
algorithms = ["ES256"]
jwks_url = "http://127.0.0.1:8788/jwks.json"
`;

// Wrangler asks nothing on the network.
const NO_API = { CLOUDFLARE_API_BASE_URL: "http://127.0.0.1:1", CLOUDFLARE_API_TOKEN: "a-token-of-the-test" };

describe("the commands", () => {
  test("check an environment after the policy, and fail with each fault", async () => {
    const { code, out, err } = await runScript("check", ["--env", "production"]).ended;
    assert.equal(code, 1);
    assert.match(out, /decisions are as expected\.\n$/);
    assert.deepEqual(err.trim().split("\n"), environmentFaults(wrangler, "production", policy));
  });

  for (const [script, args] of [
    ["check", ["--env", "prod"]],
    ["explain", ["--token", "x", "--env", "prod"]],
    ["policy-push", ["--env", "prod"]],
    ["policy-rollback", ["--env", "prod"]],
    ["secrets", ["--env", "prod"]],
  ]) {
    test(`${script} refuses an environment that wrangler.toml does not have`, async () => {
      const { code, err } = await runScript(script, args).ended;
      assert.equal(code, 2, err);
      assert.match(err, /^portcullis: --env: "prod" is not in wrangler\.toml; .*: staging, production\.$/m);
    });
  }

  for (const [what, text, words] of [
    ["a development issuer", DEVELOPMENT, /^issuer development is for development; .*$/m],
    [
      "a limit that is not bound",
      '[limits.per-user]\nby = "user"\n',
      /^wrangler\.toml: ratelimits lacks LIMIT_PER_USER, /m,
    ],
  ]) {
    test(`policy-push refuses ${what} on Cloudflare, before it asks for the current policy`, async (t) => {
      const file = join(temporaryFolder(testScope(t)), "gateway.toml");
      writeFileSync(file, `${readFileSync(join(ROOT, "gateway.toml"), "utf8")}\n${text}`);
      const { code, err } = await runScript("policy-push", ["--remote", "--file", file], { env: NO_API }).ended;
      assert.equal(code, 1, err);
      assert.match(err, words);
      assert.match(err, /gateway\.toml is not pushed/);
    });
  }

  for (const [script, args, words] of [
    ["policy-push", ["--env", "staging"], /staging has no KV namespace KEYS yet/],
    ["policy-rollback", ["--env", "staging"], /staging has no KV namespace KEYS yet/],
    ["policy-push", ["--env", "staging", "--local"], /--local is the local gateway/],
    ["check", ["GET", "/", "--env", "staging"], /--env is for the whole policy/],
  ]) {
    test(`${[script, ...args].join(" ")} is refused before anything is done`, async () => {
      const { code, err } = await runScript(script, args).ended;
      assert.equal(code, 2, err);
      assert.match(err, words);
    });
  }
});
