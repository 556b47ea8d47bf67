// deploy/deploy.sh with stand-ins for npm, wrangler and the gateway: which commands it runs, and that it rolls back
// after each kind of failure. The workflow that runs it, and the manifest of Cloudflare's button.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { delimiter, join } from "node:path";
import { describe, test } from "node:test";

import { parse } from "yaml";

import { secretsOf } from "../../cli/lib/policy-document.js";
import { readWranglerFile } from "../../cli/lib/project-policy.js";
import { parseVars } from "../../cli/lib/vars.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { compilePolicy } from "../../scripts/lib/policy-tool.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const SCRIPT = join(ROOT, "deploy", "deploy.sh");
const OLD = "11111111-1111-4111-8111-111111111111";
const NEW = "22222222-2222-4222-8222-222222222222";
const TOKEN = remember("a-token-for-operators-of-deploy");

// A command that writes its arguments into calls, and fails if they begin as FAIL says. Wrangler's answers are those of
// wrangler 4.
const FAKE = `#!/usr/bin/env node
const { appendFileSync, existsSync, readFileSync } = require("node:fs");
const [, script, ...args] = process.argv;
const name = script.split("/").pop();
const line = [name, ...args].join(" ").replace("npx --no-install wrangler", "wrangler");
appendFileSync(process.env.CALLS, line + "\\n");
for (const start of (process.env.FAIL ?? "").split(";").filter(Boolean)) if (line.startsWith(start)) process.exit(1);
const output = (entry) => appendFileSync(process.env.WRANGLER_OUTPUT_FILE_PATH, JSON.stringify(entry) + "\\n");
const worker = { worker_name: "portcullis-staging", version_id: "${NEW}" };
if (line.startsWith("wrangler versions upload")) output({ type: "version-upload", ...worker });
if (line.startsWith("wrangler deploy --dry-run")) output({ type: "deploy", version_id: null });
else if (line.startsWith("wrangler deploy ")) output({ type: "deploy", ...worker });
if (line.startsWith("wrangler deployments status"))
  console.log(JSON.stringify({ versions: [{ version_id: "other", percentage: 5 }, { version_id: "${OLD}", percentage: 95 }] }));
`;

// Stands for the gateway: \`answer\` returns [version, status of /ready] for the number of an asked pair.
async function startGateway(scope, answer) {
  const seen = [];
  const server = createServer((request, response) => {
    const { url, headers } = request;
    seen.push({ url, headers });
    const count = seen.filter((one) => one.url === url).length;
    const [version, ready] = answer(count);
    response.statusCode = url === "/ready" ? ready : 200;
    const body = url === "/ready" ? { ready: ready === 200, missing: ["secret X"] } : { worker_version: version };
    response.end(JSON.stringify(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  scope.after(() => server.close());
  return { seen, url: `http://127.0.0.1:${server.address().port}` };
}

async function deploy(t, { args = ["staging"], fail = "", answer = () => [NEW, 200], env = {}, signalAt } = {}) {
  const scope = testScope(t);
  const folder = temporaryFolder(scope, "deploy");
  const bin = join(folder, "bin");
  mkdirSync(bin);
  for (const name of ["npm", "npx"]) writeFileSync(join(bin, name), FAKE, { mode: 0o700 });
  const calls = join(folder, "calls");
  const gateway = await startGateway(scope, answer);
  const child = spawn("sh", [SCRIPT, ...args], {
    env: {
      ...process.env,
      PATH: [bin, process.env.PATH].join(delimiter),
      CALLS: calls,
      FAIL: fail,
      GATEWAY_URL: `${gateway.url}/`,
      METRICS_TOKEN: TOKEN,
      ROLLOUT_PAUSE_S: "0",
      SMOKE_TRIES: "2",
      SMOKE_PAUSE_S: "0",
      ...env,
    },
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", (text) => (output += text));
  const closed = new Promise((resolve) => child.once("close", resolve));
  const called = () => (existsSync(calls) ? readFileSync(calls, "utf8").trim().split("\n") : []);
  if (signalAt !== undefined) {
    await until("it has got there", () => called().some((line) => line.includes(signalAt)));
    child.kill("SIGTERM");
  }
  const code = await closed;
  const lines = called().map((line) => line.replace(/--(tag|message) [0-9a-f]{7,12}/g, "--$1 REV"));
  return { code, output, lines, seen: gateway.seen };
}

const CHECKED = ["npm run --silent check -- --env staging", "npm test", "wrangler deploy --dry-run --env staging"];
const UPLOADED = [
  ...CHECKED,
  "npm run --silent secrets -- --env staging",
  "wrangler deployments status --json --env staging",
  "wrangler versions upload --tag REV --message REV --env staging",
];
const share = (percent) =>
  percent === 100
    ? `wrangler versions deploy ${NEW}@100 --yes --message REV --env staging`
    : `wrangler versions deploy ${NEW}@${percent} ${OLD}@${100 - percent} --yes --message REV --env staging`;

const isRollback = (line) => line.startsWith(`wrangler versions deploy ${OLD}@100 --yes`);

describe("deploy.sh", () => {
  test("checks, tests, uploads, and raises the share of a version that is ready", async (t) => {
    const { code, output, lines, seen } = await deploy(t);
    assert.equal(code, 0, output);
    assert.deepEqual(lines, [...UPLOADED, ...[0, 10, 50, 100].map(share), "wrangler triggers deploy --env staging"]);
    assert.equal(seen.length, 8);
    for (const { headers } of seen) {
      assert.equal(headers.authorization, `Bearer ${TOKEN}`);
      assert.equal(headers["cloudflare-workers-version-overrides"], `portcullis-staging="${NEW}"`);
    }
    assert.ok(!output.includes(TOKEN));
  });

  test("takes the shares of ROLLOUT, and leaves out the tests on request", async (t) => {
    const { code, lines } = await deploy(t, { args: ["--skip-tests", "staging"], env: { ROLLOUT: "100" } });
    assert.equal(code, 0);
    assert.ok(!lines.includes("npm test"));
    assert.deepEqual(lines.slice(-3, -1), [share(0), share(100)]);
  });

  test("waits for a version that is ready a little later", async (t) => {
    const { code, output } = await deploy(t, { answer: (count) => [count < 2 ? OLD : NEW, 200] });
    assert.equal(code, 0, output);
  });

  for (const [what, options, last] of [
    ["the check", { fail: "npm run --silent check" }, "npm run --silent check -- --env staging"],
    ["the tests", { fail: "npm test" }, "npm test"],
    ["the build", { fail: "wrangler deploy --dry-run" }, "wrangler deploy --dry-run --env staging"],
    ["the list of secrets", { fail: "npm run --silent secrets" }, "npm run --silent secrets -- --env staging"],
    ["the first state", { fail: "wrangler deployments" }, "wrangler deployments status --json --env staging"],
    ["the upload", { fail: "wrangler versions upload" }, UPLOADED.at(-1)],
  ]) {
    test(`deploys nothing if ${what} fails`, async (t) => {
      const { code, lines } = await deploy(t, options);
      assert.equal(code, 1);
      assert.equal(lines.at(-1), last);
    });
  }

  for (const [what, options, at] of [
    ["another version answers", { answer: () => [OLD, 200] }, 0],
    ["the version is not ready", { answer: () => [NEW, 503] }, 0],
    ["it is not ready at half of the requests", { answer: (count) => [NEW, count < 3 ? 200 : 503] }, 50],
    ["a share is refused", { fail: `wrangler versions deploy ${NEW}@10` }, 10],
  ]) {
    test(`rolls back if ${what}`, async (t) => {
      const { code, output, lines } = await deploy(t, options);
      assert.equal(code, 1, output);
      assert.equal(lines.at(-2), share(at));
      assert.ok(isRollback(lines.at(-1)), lines.at(-1));
      assert.match(output, /All requests are served by 11111111-\S+ again\./);
    });
  }

  test("rolls back if it is interrupted between two shares", async (t) => {
    const { code, lines } = await deploy(t, { env: { ROLLOUT_PAUSE_S: "600" }, signalAt: `${NEW}@10` });
    assert.equal(code, 1);
    assert.ok(isRollback(lines.at(-1)), lines.at(-1));
  });

  test("names the command if the rollback fails as well", async (t) => {
    const fail = `wrangler versions deploy ${OLD}`;
    const { code, output } = await deploy(t, { answer: () => [NEW, 503], fail });
    assert.equal(code, 1);
    assert.match(output, /Run: npx wrangler versions deploy 11111111-\S+@100 --env staging/);
  });

  test("with --first deploys at once, also without a secret, and says what is missing", async (t) => {
    const good = await deploy(t, { args: ["staging", "--first"], fail: "wrangler deployments" });
    assert.equal(good.code, 0, good.output);
    assert.deepEqual(good.lines.slice(-2), [
      "wrangler deployments status --json --env staging",
      "wrangler deploy --env staging",
    ]);
    const bad = await deploy(t, { args: ["staging", "--first"], answer: () => [NEW, 503] });
    assert.equal(bad.code, 1);
    assert.match(bad.output, /secret X/);
    assert.match(bad.output, /unless it had a migration, run: npx wrangler rollback 11111111/);
  });

  for (const [what, args, env, code] of [
    ["an environment", [], {}, 2],
    ["known arguments", ["staging", "--fast"], {}, 2],
    ["one environment", ["staging", "production"], {}, 2],
    ["the gateway's URL", ["staging"], { GATEWAY_URL: "" }, 1],
    ["the token of its metrics", ["staging"], { METRICS_TOKEN: "" }, 1],
    ["whole percentages", ["staging"], { ROLLOUT: "10 x 100" }, 1],
    ["a rollout to the end", ["staging"], { ROLLOUT: "10 50" }, 1],
  ]) {
    test(`needs ${what}`, async (t) => {
      const ended = await deploy(t, { args, env });
      assert.equal(ended.code, code, ended.output);
      assert.deepEqual(ended.lines, []);
    });
  }
});

describe("the workflow", () => {
  const workflow = parse(readFileSync(join(ROOT, ".github", "workflows", "deploy.yml"), "utf8"));
  const names = Object.keys(workflow.jobs);
  const runs = (name) => workflow.jobs[name].steps.flatMap(({ run }) => run ?? []);

  test("tests, then deploys to staging, then to production", () => {
    assert.deepEqual(names, ["test", "staging", "production"]);
    assert.deepEqual(
      names.map((name) => workflow.jobs[name].needs),
      [undefined, "test", "staging"],
    );
    assert.deepEqual(runs("test"), ["npm run setup", "npm test"]);
    for (const name of ["staging", "production"]) {
      assert.deepEqual(runs(name), ["npm run setup", `deploy/deploy.sh ${name} --skip-tests`]);
      assert.equal(workflow.jobs[name].environment, name);
    }
  });

  test("gives secrets to the deployment alone, and does nothing where it is not set up", () => {
    const steps = names.flatMap((name) => workflow.jobs[name].steps);
    for (const step of steps) {
      const hasSecret = JSON.stringify(step).includes("secrets.");
      assert.equal(hasSecret, step.run?.startsWith("deploy/deploy.sh") ?? false);
      if (hasSecret)
        for (const name of ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "GATEWAY_URL", "METRICS_TOKEN"])
          assert.ok(name in step.env, name);
    }
    assert.equal(workflow.jobs.test.if, "vars.CLOUDFLARE_ACCOUNT_ID != ''");
    assert.deepEqual(workflow.permissions, { contents: "read" });
    assert.notEqual(workflow.concurrency["cancel-in-progress"], true);
  });
});

test("the button asks for each secret of the shipped policy, and describes only what exists", async () => {
  const policy = JSON.parse(await compilePolicy("gateway.toml"));
  const example = parseVars(readFileSync(join(ROOT, ".dev.vars.example"), "utf8"));
  assert.deepEqual(Object.keys(example), [...secretsOf(policy).map(({ name }) => name), "METRICS_TOKEN"]);
  const { cloudflare } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8"));
  const { kv_namespaces: stores, durable_objects: objects } = await readWranglerFile(ROOT);
  const urls = Object.keys(policy.upstreams).map((name) => `UPSTREAM_${name.toUpperCase()}_URL`);
  const known = [...stores.map(({ binding }) => binding), ...objects.bindings.map(({ name }) => name), ...urls];
  assert.deepEqual(Object.keys(cloudflare.bindings), [...known, ...Object.keys(example)]);
  for (const { description } of Object.values(cloudflare.bindings)) assert.match(description, /\.$/);
});
