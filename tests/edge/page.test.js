// The operators' page at /_gateway/: who gets it and what it reads, and how it works in Chromium. page-looks.test.js looks
// at it.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { contains, noChromium, openChromium, openPage, signIn } from "../harness/chromium.js";
import { startEdge, startGateway } from "../harness/edge.js";
import {
  compile,
  makeTraffic,
  ME,
  OPERATED,
  OPERATOR,
  policiesOf,
  PUSHED,
  SCRAPER,
  versionOf,
} from "../harness/operators.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// The page's own host. Chromium finds it on this machine.
const HOST = "operators.localhost";

const PAGE = "/_gateway/";

/** @type {[string, string][]} */
const OPERATIONS = [
  ["GET", "/_gateway/refusals"],
  ["GET", "/_gateway/policy"],
  ["POST", "/_gateway/rollback"],
];

describe("the operators' page", () => {
  let issuer, edge, policies;

  before(async () => {
    ({ issuer, edge } = await startGateway(scope, { vars: OPERATED }));
    policies = policiesOf(edge);
  });

  const read = async (path) => {
    const answer = await edge.get(path, { token: OPERATOR });
    assert.equal(answer.status, 200, answer.body);
    return answer.json();
  };
  const rollBack = (version) =>
    edge.send({
      method: "POST",
      path: "/_gateway/rollback",
      headers: { authorization: `Bearer ${OPERATOR}`, "if-match": `"${version}"` },
    });

  test("has no data in it, and a policy that allows its own style and script alone", async () => {
    const page = await edge.get(PAGE);
    assert.equal(page.status, 200);
    assert.equal(page.headers["content-type"], "text/html; charset=utf-8");
    assert.equal(page.headers["cache-control"], "no-store");
    assert.equal(page.headers["cross-origin-opener-policy"], "same-origin");
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
    assert.equal((await edge.send({ method: "HEAD", path: PAGE })).status, 200);
  });

  test("its data and the rollback are for operators, not for scrapers", async () => {
    for (const [method, path] of OPERATIONS) {
      for (const [token, code] of [
        [undefined, "credentials_missing"],
        ["another-token-altogether", "metrics_token_wrong"],
        [SCRAPER, "metrics_token_wrong"],
        [await issuer.accessToken({ roles: ["admin"] }), "metrics_token_wrong"],
      ]) {
        const headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
        const answer = await edge.send({ method, path, headers });
        assert.deepEqual([answer.status, answer.json().code], [401, code], path);
      }
    }
    for (const token of [SCRAPER, OPERATOR])
      for (const path of ["/metrics", "/status"]) assert.equal((await edge.get(path, { token })).status, 200, path);
  });

  test("has a host of its own, at which no route is served", async () => {
    await edge.restart({ vars: { OPERATORS_HOST: HOST } });
    const { port } = new URL(edge.url);
    const token = await issuer.accessToken();
    const at = async (host, method, path, shown) => {
      const headers = { host: `${host}:${port}`, authorization: `Bearer ${shown}` };
      return (await edge.send({ method, path, headers })).status;
    };
    for (const [method, path] of [
      ["GET", PAGE],
      ["GET", "/_gateway/policy"],
      ["GET", "/_gateway/refusals"],
    ]) {
      assert.equal(await at(HOST, method, path, OPERATOR), 200, path);
      assert.equal(await at(HOST.toUpperCase(), method, path, OPERATOR), 200, path);
      for (const host of ["127.0.0.1", `a.${HOST}`, `${HOST}.`])
        assert.equal(await at(host, method, path, OPERATOR), 404, `${host} ${path}`);
    }
    assert.equal(await at("127.0.0.1", "POST", "/_gateway/rollback", OPERATOR), 404);
    assert.equal(await at("127.0.0.1", "GET", ME, token), 200);
    for (const host of [HOST, HOST.toUpperCase()]) assert.equal(await at(host, "GET", ME, token), 404, host);
    await edge.restart({ vars: { OPERATORS_HOST: undefined } });
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
      await edge.get("/metrics", { token: SCRAPER });
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
      await edge.get("/metrics", { token: SCRAPER });
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
    const first = await compile(PUSHED);
    const second = await compile(PUSHED.replace("/pushed", "/pushed-later"));
    assert.equal((await rollBack("x")).status, 409, "there is nothing to roll back");
    await policies.put("current", first);
    assert.equal((await rollBack(versionOf(second))).status, 412);
    await policies.put("previous", first);
    await policies.put("current", second);
    await until("it is in use", async () => (await edge.get("/pushed-later")).status !== 404);

    const answer = await rollBack(versionOf(second));
    assert.deepEqual([answer.status, answer.json()], [200, { version: versionOf(first), origin: "pushed" }]);
    await until("the first is in use again", async () => (await edge.get("/pushed")).status !== 404);
    assert.equal(await policies.get("previous"), second);
    const event = edge.lines.find((line) => line.event_type === "gateway.policy_rollback");
    assert.equal(event.request_id, answer.headers["x-request-id"]);

    await policies.remove("previous");
    const last = await rollBack(versionOf(first));
    assert.deepEqual([last.status, last.json().origin], [200, "built-in"]);
    await until("the built-in one is in use", async () => (await edge.get("/pushed")).status === 404);

    await policies.put("current", first);
    await edge.restart({ vars: { LIVE_POLICY: "false" } });
    assert.equal((await rollBack(versionOf(first))).status, 409);
    await policies.remove("current");
    await edge.restart({ vars: { LIVE_POLICY: "true" } });
  });

  test("is 404 without OPERATORS_TOKEN", async () => {
    await edge.restart({ vars: { OPERATORS_TOKEN: undefined } });
    for (const [method, path] of [...OPERATIONS, ["GET", PAGE]]) {
      const headers = { authorization: `Bearer ${SCRAPER}` };
      assert.equal((await edge.send({ method, path, headers })).status, 404, path);
    }
    await edge.restart({ vars: OPERATED });
  });
});

describe("the operators' page in Chromium", { skip: noChromium }, () => {
  let issuer, edge, browser;

  before(async () => {
    ({ issuer, edge } = await startGateway(scope, { vars: OPERATED }));
    browser = await openChromium(scope);
  });

  const open = async (t) => {
    const opened = await openPage(browser, edge.url, OPERATOR);
    t.after(() => opened.context.close());
    return opened;
  };

  // What a script of the same origin can read.
  const STORED = `(async () => JSON.stringify([
    { ...sessionStorage }, { ...localStorage }, document.cookie, name, history.state, await caches.keys(),
    await indexedDB.databases(),
  ]))()`;

  test("a token that cannot open it, such as a scraper's, is refused with words", async (t) => {
    for (const token of ["another-token-altogether", SCRAPER]) {
      const context = await browser.newContext();
      t.after(() => context.close());
      const page = await context.newPage();
      await page.goto(`${edge.url}${PAGE}`);
      await signIn(page, token);
      await contains(page, "sign-in-error", "does not accept this token");
      assert.ok(!(await page.evaluate(STORED)).includes(token));
    }
  });

  test("the token is in no store that other pages can read, and a reload asks again", async (t) => {
    const { page, problems } = await open(t);
    assert.equal(await page.evaluate(STORED), '[{},{"portcullis-theme":"auto"},"","",null,[],[]]');
    assert.equal(await page.inputValue("#operators-token"), "");
    await page.reload();
    await contains(page, "sign-in-note", "after a reload, it asks again");
    assert.ok(await page.isHidden("#overview"));
    assert.deepEqual(problems, []);
  });

  test("a page of an upstream can neither reach into it nor replace it", async (t) => {
    const users = await startUpstream(scope);
    users.answer("GET /app", { headers: { "content-type": "text/html" }, body: "<!doctype html><title>app</title>" });
    users.answer("GET /worker.js", {
      headers: { "content-type": "text/javascript", "service-worker-allowed": "/" },
      body: "onactivate = (event) => event.waitUntil(clients.claim()); onfetch = (event) => event.respondWith(new Response('replaced'));",
    });
    const policy = { text: PUSHED.replaceAll("auth", "users").replace("/pushed", "/{*rest}") };
    const own = await startEdge(scope, { users, policy, vars: { ...OPERATED, OPERATORS_HOST: HOST } });
    const pageUrl = own.url.replace("127.0.0.1", HOST) + PAGE;
    const context = await browser.newContext();
    t.after(() => context.close());
    const app = await context.newPage();
    assert.equal((await app.goto(`${own.url}/app`)).status(), 200);
    const opened = context.waitForEvent("page");
    await app.evaluate(`globalThis.opened = open(${JSON.stringify(pageUrl)}); undefined`);
    const page = await opened;
    await page.waitForSelector("#sign-in:not([hidden])");
    assert.equal(await page.evaluate("opener"), null);
    assert.equal(await app.evaluate("globalThis.opened.closed"), true, "the opener has lost it");
    await signIn(page, OPERATOR);
    await page.waitForSelector("#overview:not([hidden]) #tiles .tile");

    // The worker replaces the pages of its own origin alone.
    await app.evaluate(
      `navigator.serviceWorker.register("/worker.js", { scope: "/" }).then(() => navigator.serviceWorker.ready).then(() => {})`,
    );
    await app.goto(own.url + PAGE);
    assert.equal(await app.textContent("body"), "replaced");
    await page.reload();
    await page.waitForSelector("#sign-in:not([hidden])");
    const asked = users.requests.length;
    for (const path of ["/app", "/worker.js"])
      assert.equal((await page.goto(new URL(path, pageUrl).href)).status(), 404);
    assert.equal(users.requests.length, asked);
  });

  test("is live without a reload, and sends the token to its own origin only", async (t) => {
    const { page, problems, sent } = await open(t);
    const total = () => page.textContent("#routes");
    const refused = await makeTraffic({ issuer, edge }, 10);
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
      const isPage = new URL(request.url()).pathname === PAGE;
      assert.equal(request.headers().authorization, isPage ? undefined : `Bearer ${OPERATOR}`);
    }
    await page.click("#sign-out");
    await page.waitForSelector("#sign-in:not([hidden])");
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
