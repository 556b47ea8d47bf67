// Revoked tokens in workerd: the log's object, the location's cache, two isolates.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { before, describe, test } from "node:test";

import { cachePage, pageKey, readCachedPage } from "../../src/host/bindings.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startGateway } from "../harness/edge.js";
import { sendBytes } from "../harness/http.js";
import { fileScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const ME = "/api/v1/auth/me";
const LOGOUT = "/api/v1/auth/logout";
const STRICT = "/api/v1/auth/keys/rotate";
const STRICT_ROUTES = [
  { method: "POST", path: STRICT },
  { method: "POST", path: "/api/v1/auth/api-keys" },
  { method: "DELETE", path: "/api/v1/auth/api-keys/k1" },
];
const PUSH = "/_gateway/revocations";

// Milliseconds; crates/token/src/revocation/limits.rs.
const STALE_MS = 4_000;

// Milliseconds; policies/revocable.toml.
const MAX_AGE_MS = 5_000;

const scope = fileScope();

// A service token of the issuer, which identifies the auth service to the gateway.
function serviceToken(issuer, changes = {}) {
  const claims = { sub: "auth-service", aud: "portcullis", token_type: "service", roles: ["service"] };
  return issuer.sign(issuer.claims({ ...claims, sid: undefined, ...changes }), { typ: "service+jwt" });
}

async function start({ twin = true, ...options } = {}) {
  const { auth, users, issuer, edge } = await startGateway(scope, { twin, ...options });
  const push = async (revocations, token) =>
    edge.post(PUSH, { revocations }, { token: token ?? (await serviceToken(issuer)) });
  return { auth, users, issuer, edge, push };
}

// Asks until the answer is not 200. Returns when the last request with a 200 was sent.
async function untilRefused(ask) {
  let letInAt = 0;
  const answer = await until("the token is refused", async () => {
    const asked = Date.now();
    const said = await ask();
    if (said.status === 200) letInAt = asked;
    return said.status !== 200 && said;
  });
  return { answer, letInAt };
}

describe("revocation at the running gateway", () => {
  let issuer, edge, push, auth;

  before(async () => {
    ({ issuer, edge, push, auth } = await start());
  });

  const session = (sid = randomUUID()) => issuer.accessToken({ sid, roles: ["admin"] });
  const statusOf = async (answer) => [answer.status, answer.status < 300 ? "ok" : answer.json().code];

  test("a logout ends the session: at once in this isolate and on strict routes, elsewhere within the window", async (t) => {
    const sid = randomUUID();
    const [token, sibling, bystander] = [await session(sid), await session(sid), await session()];
    for (const one of [token, sibling, bystander]) {
      assert.equal((await edge.get(ME, { token: one })).status, 200);
      assert.equal((await edge.twin({ path: ME, token: one })).status, 200);
    }
    for (const route of STRICT_ROUTES) {
      const other = await session();
      assert.equal((await edge.twin({ path: ME, token: other })).status, 200);
      assert.equal((await edge.post(LOGOUT, {}, { token: other })).status, 200);
      const strict = await edge.twin({ ...route, token: other });
      assert.deepEqual([strict.status, strict.json.code], [401, "token_revoked"], route.path);
    }

    assert.equal((await edge.post(LOGOUT, {}, { token })).status, 200);
    const ended = Date.now();
    assert.deepEqual(await statusOf(await edge.get(ME, { token })), [401, "token_revoked"]);
    assert.deepEqual(await statusOf(await edge.get(ME, { token: sibling })), [401, "token_revoked"]);
    const refused = await untilRefused(() => edge.twin({ path: ME, token: sibling }));
    t.diagnostic(`refused by the other isolate ${Date.now() - ended} ms after the logout`);
    assert.ok(refused.letInAt - ended <= STALE_MS, `let in ${refused.letInAt - ended} ms later`);
    assert.equal(refused.answer.json.detail, "Token has been revoked");
    assert.equal((await edge.twin({ path: ME, token: bystander })).status, 200);
    assert.equal((await edge.get(ME, { token: bystander })).status, 200);
  });

  test("a push revokes a token, a session, or a user up to a time", async () => {
    const sub = randomUUID();
    const sid = randomUUID();
    const now = Math.floor(Date.now() / 1000);
    const make = (changes) => issuer.accessToken({ sub, roles: ["admin"], ...changes });
    for (const [revocation, changes] of [
      [{ token: "a-token" }, { jti: "a-token" }],
      [{ session: sid, expires_at: now + 900 }, { sid }],
      [
        { user: sub, issued_until: now - 5 },
        { iat: now - 5, nbf: now - 5, exp: now + 600 },
      ],
    ]) {
      const hit = await make(changes);
      const missed = await make({});
      assert.equal((await edge.get(ME, { token: hit })).status, 200);
      const answer = await push([revocation]);
      assert.deepEqual([answer.status, answer.json()], [200, { received: 1, noted: 1 }]);
      assert.deepEqual(await statusOf(await edge.get(ME, { token: hit })), [401, "token_revoked"]);
      assert.equal((await edge.get(ME, { token: missed })).status, 200);
      const strict = await edge.twin({ method: "POST", path: STRICT, token: hit });
      assert.equal(strict.json.code, "token_revoked");
    }
  });

  test("a new isolate knows what was revoked before it started", async () => {
    const token = await session();
    assert.equal((await edge.post(LOGOUT, {}, { token })).status, 200);
    const ended = Date.now();
    await edge.restart();
    const { letInAt } = await untilRefused(() => edge.get(ME, { token }));
    assert.ok(letInAt - ended <= STALE_MS, `let in ${letInAt - ended} ms later`);
  });

  test("only the auth service may push, with a token of its own", async () => {
    const entries = [{ session: randomUUID() }];
    for (const [name, token] of [
      ["an administrator's access token", await session()],
      ["a token for another service", await serviceToken(issuer, { aud: "user-service" })],
      ["another service's token", await serviceToken(issuer, { sub: "user-service" })],
    ]) {
      assert.equal((await push(entries, token)).status, 401, name);
    }
    const none = await edge.post(PUSH, { revocations: entries });
    assert.deepEqual(await statusOf(none), [401, "credentials_missing"]);
    const asked = await edge.get(PUSH, { token: await serviceToken(issuer) });
    assert.deepEqual([asked.status, asked.headers.allow], [405, "POST"]);
  });

  test("an invalid push is 400, a too long one 413, and neither is recorded", async () => {
    const token = await serviceToken(issuer);
    const kept = await session("kept");
    const send = (body) =>
      edge.send({ method: "POST", path: PUSH, headers: { authorization: `Bearer ${token}` }, body });
    for (const [body, status] of [
      ["", 400],
      ["{}", 400],
      ['{"revocations":[{"session":"kept"},{"session":7}]}', 400],
      [`{"revocations":[{"session":"kept"}]${" ".repeat(256 * 1024)}}`, 413],
      [JSON.stringify({ revocations: Array(1001).fill({ session: "kept" }) }), 400],
    ]) {
      assert.equal((await send(body)).status, status, body.slice(0, 60));
    }
    assert.equal((await edge.get(ME, { token: kept })).status, 200);
  });

  test("a thousand at a time are recorded, and known to the other isolate", async () => {
    const sids = Array.from({ length: 1000 }, () => randomUUID());
    const tokens = await Promise.all([sids[0], sids[999]].map((sid) => session(sid)));
    assert.equal((await push(sids.map((sid) => ({ session: sid })))).status, 200);
    for (const token of tokens) {
      await until("the other isolate refuses it", async () => (await edge.twin({ path: ME, token })).status === 401);
    }
  });

  test("an invalid Host is refused", async () => {
    const token = await session();
    for (const host of ["user@a", "a/b", "a?b"]) {
      const lines = [
        `GET ${ME} HTTP/1.1`,
        `Host: ${host}`,
        `Authorization: Bearer ${token}`,
        "Connection: close",
        "",
        "",
      ];
      const answer = await sendBytes(edge.url, lines.join("\r\n"));
      assert.match(answer, /^HTTP\/1\.1 400 [\s\S]*"code":"host_invalid"/, `${host}: ${answer}`);
    }
  });

  test("/status shows the copy, and the log line the code", async () => {
    const token = await session();
    await edge.post(LOGOUT, {}, { token });
    const refused = await edge.get(ME, { token });
    assert.equal((await edge.lineOf(refused)).code, "token_revoked");
    const { revocation } = (await edge.get("/status")).json();
    assert.equal(revocation.status, "healthy");
    assert.ok(revocation.entries > 0 && revocation.age_ms < 60_000, JSON.stringify(revocation));
  });

  test("a revocation's values are in no log", async () => {
    const sid = randomUUID();
    assert.equal((await push([{ session: sid }, { user: "somebody@example.com", issued_until: 5 }])).status, 200);
    assert.ok(!edge.output.includes(sid) && !edge.output.includes("somebody@example.com"));
    assert.ok(auth.requests.every(({ path }) => path !== PUSH));
  });
});

describe("two gateways in one zone", { skip: onlyOnPlatform("no shared cache") }, () => {
  test("neither uses the other's log", async () => {
    const { edge, issuer } = await start({ twin: "stranger" });
    const token = await issuer.accessToken();
    assert.equal((await edge.get(ME, { token })).status, 200);
    assert.equal((await edge.twin({ path: ME, token })).status, 200);
    assert.equal((await edge.post(LOGOUT, {}, { token })).status, 200);
    const ended = Date.now();
    await edge.restart();
    // The other gateway asks first, so that the location's cache holds its page.
    const { letInAt } = await untilRefused(async () => {
      assert.equal((await edge.twin({ path: ME, token })).status, 200);
      return edge.get(ME, { token });
    });
    assert.ok(letInAt - ended <= STALE_MS, `let in ${letInAt - ended} ms later`);
  });
});

describe("a revocation log that fails", { skip: onlyOnPlatform("a simulated fault of the log") }, () => {
  let issuer, edge, push;

  before(async () => {
    ({ issuer, edge, push } = await start({ twin: false, faultyLog: true, policy: "revocable" }));
  });

  const get = async (path, token) => {
    const answer = await edge.get(path, { token });
    return answer.status === 200 ? "ok" : `${answer.status} ${answer.json().code}`;
  };

  for (const mode of ["fail", "hang", "garbage"]) {
    test(`${mode}: tokens pass up to the limit, then 503; strict ones at once; all again when it is back`, async () => {
      await edge.log("pass");
      await edge.restart();
      const token = await issuer.accessToken();
      assert.equal(await get("/me", token), "ok");
      await edge.log(mode);
      const began = Date.now();
      assert.equal(await get("/strict", token), "503 revocation_unavailable");
      const { answer: refused, letInAt } = await untilRefused(() => edge.get("/me", { token }));
      assert.equal(refused.json().code, "revocation_unavailable");
      assert.ok(letInAt - began <= MAX_AGE_MS, `let in ${letInAt - began} ms after the log was last read`);
      assert.ok(Date.now() - began > STALE_MS, "a copy is good for longer than the window while the log fails");
      const answer = await edge.get("/me", { token });
      assert.equal(answer.headers["retry-after"], "1");
      assert.equal((await edge.get("/open")).status, 200);
      assert.equal((await push([{ session: randomUUID() }])).status, 503);
      await edge.log("pass");
      await until("tokens pass again", async () => (await get("/me", token)) === "ok");
    });
  }

  test("an isolate that never read the log refuses every token that could be revoked", async () => {
    await edge.restart();
    await edge.log("fail");
    const token = await issuer.accessToken();
    // The location's cached page is used until it expires.
    await until("that is over", async () => (await get("/me", token)) === "503 revocation_unavailable");
    assert.equal((await edge.get("/ready")).status, 503);
    assert.equal((await edge.get("/status")).status, 503);
  });
});

describe("the revocation log's object", () => {
  let edge;
  const mark = (letter) => `${letter.repeat(21)}A`;
  const now = () => Math.floor(Date.now() / 1000);
  const append = (entries) =>
    edge.logObject("/append", { body: JSON.stringify({ as_of: 0, newest: 0, from: 0, entries }) });
  const read = async (path) => (await edge.logObject(path)).json;

  before(async () => {
    ({ edge } = await start({ twin: false }));
  });

  test("entries have rising numbers; an entry without news keeps its number, and none ever revokes less", async () => {
    const until1 = now() + 900;
    assert.equal(
      (
        await append([
          [mark("a"), 100, until1],
          [mark("b"), 100, until1],
        ])
      ).status,
      204,
    );
    assert.equal((await read("/newest")).newest, 2);
    assert.equal(
      (
        await append([
          [mark("a"), 100, until1],
          [mark("a"), 50, until1 - 5],
        ])
      ).status,
      204,
    );
    assert.equal((await read("/newest")).newest, 2, "a push that is sent again");
    assert.equal((await append([[mark("a"), 200, until1 - 5]])).status, 204);
    const page = await read("/newest");
    assert.deepEqual([page.newest, page.from], [3, 1]);
    assert.deepEqual(
      page.entries.find(([text]) => text === mark("a")),
      [mark("a"), 200, until1],
    );
    assert.deepEqual((await read("/whole")).entries.length, 2);
    assert.ok(Math.abs(page.as_of - Date.now()) < 60_000);
    assert.deepEqual((await read(`/marks/${mark("b")},${mark("c")}`)).entries, [[mark("b"), 100, until1]]);
  });

  test("keys that cannot be read, and more than a push of API keys has, are an error and not an empty answer", async () => {
    const one = mark("b");
    for (const keys of ["", "x", `${one},x`, `x,${one}`, `${one},`, Array(101).fill(one).join(",")]) {
      assert.equal((await edge.logObject(`/marks/${keys}`)).status, 503, keys);
    }
  });

  test("the alarm deletes what has expired and nothing else", async () => {
    const soon = now() + 1;
    await append([
      [mark("d"), 100, soon],
      [mark("e"), 100, now() + 900],
    ]);
    await until("the entry expires", () => now() > soon);
    assert.equal((await read(`/marks/${mark("d")}`)).entries.length, 1, "it is there still");
    assert.ok(!(await read("/whole")).entries.some(([text]) => text === mark("d")), "and is not in the log");
    assert.equal((await edge.logObject("/alarm")).status, 204);
    assert.equal((await read(`/marks/${mark("d")}`)).entries.length, 0);
    assert.equal((await read(`/marks/${mark("e")}`)).entries.length, 1);
  });

  test("an invalid page is refused, and an unknown path is 404", async () => {
    const { newest } = await read("/newest");
    for (const body of ["{", "[]", '{"as_of":0,"newest":0,"from":0,"entries":[["short",1,1]]}']) {
      assert.equal((await edge.logObject("/append", { body })).status, 503, body);
    }
    assert.equal((await read("/newest")).newest, newest);
    assert.equal((await edge.logObject("/nothing")).status, 404);
    assert.equal((await edge.logObject("/append")).status, 404);
  });

  test("the rows read do not grow with the log", async () => {
    const { newest } = await read("/newest");
    const letters = "abcdefghijklmnopqrstuvwxyzABCDEF";
    const many = Array.from({ length: 4000 }, (_, index) => {
      const digits = [index >> 10, (index >> 5) & 31, index & 31].map((digit) => letters[digit]).join("");
      return [`costs${digits}${"A".repeat(14)}`, 1, now() + 900];
    });
    assert.equal((await append(many)).status, 204);
    await edge.logObject("/age");
    assert.equal((await append([[mark("f"), 1, now() + 900]])).status, 204);
    for (const [path, options, most] of [
      ["/newest", {}, 20],
      [`/marks/${mark("a")},${mark("f")}`, {}, 20],
      [
        "/append",
        { body: JSON.stringify({ as_of: 0, newest: 0, from: 0, entries: [[mark("g"), 1, now() + 900]] }) },
        30,
      ],
    ]) {
      const { rows } = await edge.logObject(path, options);
      assert.ok(rows > 0 && rows <= most, `${path} read ${rows} rows`);
    }
    const page = await read("/newest");
    assert.deepEqual([page.entries.length, page.from], [2, newest + 4001]);
  });

  test("more entries than the newest page holds leave a gap that it reports", async () => {
    const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef";
    const many = Array.from({ length: 6000 }, (_, index) => {
      const digits = [index >> 10, (index >> 5) & 31, index & 31].map((digit) => letters[digit]).join("");
      return [`burst${digits}${"A".repeat(14)}`, 1, now() + 900];
    });
    assert.equal((await append(many)).status, 204);
    const page = await read("/newest");
    assert.equal(page.entries.length, 5000);
    assert.equal(page.from, page.newest - 4999);
    assert.ok((await read("/whole")).entries.length >= 6000);
  });

  test("an entry sets the alarm within ten minutes, also in place of one that is decades ahead", async () => {
    const alarmIn = async () => (await edge.logObject("/alarm-at")).json - Date.now();
    await append([[mark("g"), 100, now() + 900]]);
    assert.ok((await alarmIn()) <= 600_000, `the alarm rings in ${await alarmIn()} ms`);
    assert.equal((await edge.logObject("/late-alarm")).status, 204);
    await append([[mark("h"), 100, now() + 900]]);
    assert.ok((await alarmIn()) <= 600_000, `the alarm rings in ${await alarmIn()} ms`);
  });
});

// Runs in this process, because the runtime refuses such a request before the worker.
test("a page of the log is read for a request whose Host makes no URL", async (t) => {
  const before = Object.getOwnPropertyDescriptor(globalThis, "caches");
  const kept = new Map();
  const cache = {
    match: async (key) => kept.has(key) && new Response(kept.get(key)),
    put: async (key, page) => kept.set(key, await page.text()),
  };
  Object.defineProperty(globalThis, "caches", { value: { open: async () => cache }, configurable: true });
  t.after(() => (before ? Object.defineProperty(globalThis, "caches", before) : delete globalThis.caches));
  const namespace = { idFromName: (name) => name };
  const readTwice = async (url) => {
    const key = pageKey({ url }, namespace, "log", "/newest");
    if (key === undefined) return undefined;
    let written;
    cachePage(key, { waitUntil: (work) => (written = work) }, "{}", 2);
    await written;
    return readCachedPage(key, 1_000);
  };
  for (const url of ["http://a b/me", "http://1.2.3.256/me", "http://[::1/me"]) {
    assert.equal(await readTwice(url), undefined, url);
  }
  for (const url of ["http:///me", "http://gateway.example/me"]) assert.equal(await readTwice(url), "{}", url);
});
