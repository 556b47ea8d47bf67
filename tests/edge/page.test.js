// The operators' page at /_gateway/: who gets it and what it reads, and how it works in Chromium. page-looks.test.js looks
// at it.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { openPolicyTool } from "../../scripts/lib/policy-tool.js";
import { contains, noChromium, openChromium, openPage } from "../harness/chromium.js";
import { startGateway } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const TOKEN = remember("a-token-for-the-operators-of-tests");
const ME = "/api/v1/auth/me";
const USER = "/api/v1/users/1";

const scope = fileScope();

const POLICY = `
[upstreams.auth]
url = "http://127.0.0.1:1"

[[routes]]
path = "/pushed"
methods = ["GET"]
upstream = "auth"
access = "public"
`;

const VARS = { METRICS_TOKEN: TOKEN, POLICY_REREAD_S: "1" };

async function compile(text) {
  const run = await openPolicyTool();
  const { out, errors } = run({ command: "compile", policy: { name: "gateway.toml", text } });
  assert.deepEqual(errors, []);
  return out;
}

const versionOf = (text) => createHash("sha256").update(text).digest("base64url").slice(0, 12);

describe("the operators' page", () => {
  let issuer, edge;

  before(async () => {
    ({ issuer, edge } = await startGateway(scope, { vars: VARS }));
  });

  const read = async (path) => {
    const answer = await edge.get(path, { token: TOKEN });
    assert.equal(answer.status, 200, answer.body);
    return answer.json();
  };
  const put = async (name, text) => (await edge.kv()).put(`policy/${name}`, text);
  const rollBack = (version, token = TOKEN) =>
    edge.send({
      method: "POST",
      path: "/_gateway/rollback",
      headers: { ...(token && { authorization: `Bearer ${token}` }), "if-match": `"${version}"` },
    });

  test("has no data in it, and a policy that allows its own style and script alone", async () => {
    const page = await edge.get("/_gateway/");
    assert.equal(page.status, 200);
    assert.equal(page.headers["content-type"], "text/html; charset=utf-8");
    assert.equal(page.headers["cache-control"], "no-store");
    const hash = (tag) => {
      const [, text] = new RegExp(`<${tag}[^>]*>([^]*)</${tag}>`).exec(page.body);
      return `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
    };
    const policy = new Map(page.headers["content-security-policy"].split("; ").map((part) => part.split(/ (.*)/)));
    assert.equal(policy.get("default-src"), "'none'");
    assert.equal(policy.get("script-src"), hash("script"));
    assert.equal(policy.get("style-src"), hash("style"));
    assert.equal(policy.get("connect-src"), "'self'");
    for (const name of ["base-uri", "form-action", "frame-ancestors"]) assert.equal(policy.get(name), "'none'", name);
    assert.doesNotMatch(page.body, /auth-service|127\.0\.0\.1|https?:\/\/(?!www\.w3\.org\/2000\/svg)/);
    assert.equal((await edge.send({ method: "HEAD", path: "/_gateway/" })).status, 200);
  });

  test("its data and the rollback are for operators, and each wrong token is a guess", async () => {
    for (const [method, path] of [
      ["GET", "/_gateway/refusals"],
      ["GET", "/_gateway/policy"],
      ["POST", "/_gateway/rollback"],
    ]) {
      for (const [token, code] of [
        [undefined, "credentials_missing"],
        ["another-token-altogether", "metrics_token_wrong"],
        [await issuer.accessToken({ roles: ["admin"] }), "metrics_token_wrong"],
      ]) {
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
        const answer = await edge.send({ method, path, headers });
        assert.deepEqual([answer.status, answer.json().code], [401, code], path);
      }
    }
  });

  test("shows each refusal with its route, and nothing that the client wrote", async () => {
    const secret = "canary-of-a-client";
    const refused = await edge.send({
      method: "GET",
      path: `${ME}?x=${secret}`,
      headers: { "user-agent": secret, "x-request-id": secret, "x-canary": secret },
    });
    assert.equal(refused.status, 401);
    await edge.send({ method: "CANARY", path: `/${secret}`, headers: {} });
    const id = refused.headers["x-request-id"];
    await until("it is reported", async () => {
      await edge.get("/metrics", { token: TOKEN });
      return (await read("/_gateway/refusals")).some(({ request_id }) => request_id === id);
    });
    const refusals = await read("/_gateway/refusals");
    assert.doesNotMatch(JSON.stringify(refusals), /canary/i);
    const { timestamp, trace_id, duration_ms, ...rest } = refusals.find(({ request_id }) => request_id === id);
    assert.deepEqual(rest, { request_id: id, code: "credentials_missing", status: 401, method: "GET", route: ME });
    assert.ok(Date.parse(timestamp) > 0 && trace_id.length === 32 && duration_ms >= 0);
  });

  test("keeps the newest 500 refusals", async () => {
    for (let round = 0; round < 7; round += 1) {
      await Promise.all(Array.from({ length: 90 }, () => edge.get(ME)));
      await edge.get("/metrics", { token: TOKEN });
    }
    const refusals = await read("/_gateway/refusals");
    assert.equal(refusals.length, 500);
    const times = refusals.map(({ timestamp }) => timestamp);
    assert.deepEqual(times, [...times].sort().reverse());
  });

  test("shows the policies, and the lines of the one that is built in", async () => {
    const { is_live, built_in, pushed, pushed_before } = await read("/_gateway/policy");
    assert.deepEqual([is_live, pushed, pushed_before], [true, null, null]);
    assert.equal(built_in.version, (await read("/status")).policy_version);
    const { file, routes } = built_in.lines;
    assert.equal(file, "gateway.toml");
    const lines = readFileSync(join(ROOT, "gateway.toml"), "utf8").split("\n");
    built_in.policy.routes.forEach((route, index) => {
      for (const [option, line] of Object.entries(routes[index]))
        assert.match(lines[line - 1], new RegExp(`^${option} = `));
      assert.deepEqual(Object.keys(routes[index]).sort(), Object.keys(route).sort());
    });
  });

  test("rolls back as the command does, and only the policy that the operator saw", async () => {
    const first = await compile(POLICY);
    const second = await compile(POLICY.replace("/pushed", "/pushed-later"));
    assert.equal((await rollBack("x")).status, 409, "there is nothing to roll back");
    await put("current", first);
    assert.equal((await rollBack(versionOf(second))).status, 412);
    await put("previous", first);
    await put("current", second);
    await until("it is in use", async () => (await edge.get("/pushed-later")).status !== 404);

    const answer = await rollBack(versionOf(second));
    assert.deepEqual([answer.status, answer.json()], [200, { version: versionOf(first), origin: "pushed" }]);
    await until("the first is in use again", async () => (await edge.get("/pushed")).status !== 404);
    assert.equal(await (await edge.kv()).get("policy/previous"), second);
    const event = edge.lines.find((line) => line.event_type === "gateway.policy_rollback");
    assert.equal(event.request_id, answer.headers["x-request-id"]);

    await (await edge.kv()).delete("policy/previous");
    const last = await rollBack(versionOf(first));
    assert.deepEqual([last.status, last.json().origin], [200, "built-in"]);
    await until("the built-in one is in use", async () => (await edge.get("/pushed")).status === 404);

    await put("current", first);
    await edge.restart({ vars: { LIVE_POLICY: "false" } });
    assert.equal((await rollBack(versionOf(first))).status, 409);
    await (await edge.kv()).delete("policy/current");
    await edge.restart({ vars: { LIVE_POLICY: "true" } });
  });

  test("is 404 without METRICS_TOKEN", async () => {
    await edge.restart({ vars: { METRICS_TOKEN: undefined } });
    for (const path of ["/_gateway/", "/_gateway/refusals", "/_gateway/policy"])
      assert.equal((await edge.get(path, { token: TOKEN })).status, 404, path);
    assert.equal((await rollBack("x")).status, 404);
    await edge.restart({ vars: VARS });
  });
});

describe("the operators' page in Chromium", { skip: noChromium }, () => {
  let issuer, edge, browser;

  before(async () => {
    ({ issuer, edge } = await startGateway(scope, { vars: VARS }));
    browser = await openChromium(scope);
  });

  const open = async (t) => {
    const opened = await openPage(browser, edge.url, TOKEN);
    t.after(() => opened.context.close());
    return opened;
  };

  // Two refusals, and answers of both kinds.
  async function makeTraffic(count) {
    const token = await issuer.accessToken();
    const admin = await issuer.accessToken({ roles: ["admin"] });
    for (let number = 0; number < count; number += 1) {
      await edge.get(ME, { token });
      await edge.get(USER, { token: admin });
    }
    await edge.get("/api/v1/users", { token });
    await edge.get("/nowhere");
    return edge.get(ME);
  }

  test("a wrong token is refused with words, and the page keeps nothing", async (t) => {
    const context = await browser.newContext();
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(`${edge.url}/_gateway/`);
    await page.fill("#metrics-token", "another-token-altogether");
    await page.keyboard.press("Enter");
    await contains(page, "sign-in-error", "does not accept this token");
    assert.equal(await page.evaluate("sessionStorage.length"), 0);
  });

  test("is live without a reload, and sends the token to its own origin only", async (t) => {
    const { page, problems, sent } = await open(t);
    const total = () => page.textContent("#routes");
    const refused = await makeTraffic(10);
    await contains(page, "routes", ME);
    assert.match(await total(), /\/api\/v1\/users\/\{id\}/);
    // The one with the responsible line.
    await page.click("nav a[href='#refusals']");
    await page.fill("#search", refused.headers["x-request-id"]);
    await page.waitForSelector("#refusal-list summary", { timeout: 30_000 });
    assert.equal(await page.locator("#refusal-list summary").count(), 1);
    await page.locator("#refusal-list summary").focus();
    await page.keyboard.press("Enter");
    const reason = await page.textContent("#refusal-list .reason");
    assert.match(reason, /Send Authorization: Bearer/);
    assert.match(reason, /access at gateway\.toml:\d+/);
    for (const request of sent) {
      assert.equal(new URL(request.url()).origin, edge.url);
      const isPage = new URL(request.url()).pathname === "/_gateway/";
      assert.equal(request.headers().authorization, isPage ? undefined : `Bearer ${TOKEN}`);
    }
    await page.click("#sign-out");
    assert.equal(await page.evaluate("sessionStorage.length"), 0);
    assert.deepEqual(problems, []);
  });

  test("explains a token without a request", async (t) => {
    const { page, problems, sent } = await open(t);
    await page.click("nav a[href='#token']");
    await page.click("#pause");
    for (const [changes, code] of [
      [{}, "No fault found"],
      [{ iss: "another" }, "token_issuer_unknown"],
      [{ aud: "web" }, "token_audience_invalid"],
      [{ iat: 1_000_000, nbf: 1_000_000, exp: 1_000_600 }, "token_expired"],
    ]) {
      const token = await issuer.accessToken(changes);
      const before = sent.length;
      await page.fill("#token-text", `Bearer ${token}`);
      assert.equal(await page.textContent("#verdict"), code);
      assert.equal(sent.length, before);
      assert.ok(sent.every((request) => !request.url().includes(token) && !request.postData()?.includes(token)));
    }
    await page.fill("#token-text", "opaque");
    assert.equal(await page.textContent("#verdict"), "token_malformed");
    assert.deepEqual(problems, []);
  });
});
