// A session from registration to a denied call through the edge, with the real services; and what callers get
// that bypass the edge.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { before, describe, test } from "node:test";

import { calculateJwkThumbprint, createLocalJWKSet, importSPKI, jwtVerify } from "jose";

import { ORIGIN } from "../../scripts/lib/paths.js";
import { findSecrets, listFiles } from "../../scripts/lib/secret-scan.js";
import { secretFiles } from "../../scripts/lib/secrets.js";
import { makeAssertion } from "../harness/assertion.js";
import { send } from "../harness/http.js";
import { flipBit } from "../harness/issuer.js";
import { noPython, python } from "../harness/python.js";
import { recorded, remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

describe("a session through the edge", () => {
  let stack, account, session, other;

  const get = (path, headers = {}) => stack.send({ path, headers });

  function assertProblem(answer, status, type) {
    assert.equal(answer.status, status, answer.body);
    assert.match(answer.headers["content-type"], /^application\/problem\+json/);
    const problem = answer.json();
    assert.equal(problem.type, type);
    assert.equal(problem.status, status);
    assert.equal(problem.request_id, answer.headers["x-request-id"]);
  }

  before(async () => {
    stack = await startStack(scope);
    const registered = await stack.register();
    assert.equal(registered.answer.status, 201, registered.answer.body);
    account = registered.account;
    session = await stack.login(account);
    assert.equal(session.answer.status, 200, session.answer.body);
    const second = await stack.register();
    other = await stack.login(second.account);
  });

  test("registering answers 201 with the user and no password", async () => {
    const { account: fresh, answer } = await stack.register({ email: "grace@example.com" });
    assert.equal(answer.status, 201);
    const { user } = answer.json();
    assert.equal(user.email, "grace@example.com");
    assert.deepEqual(user.roles, ["user"]);
    assert.ok(!answer.body.includes(fresh.password));
  });

  test("registering the same address again is 409", async () => {
    const { answer } = await stack.register({ email: account.email });
    assertProblem(answer, 409, "conflict");
  });

  test("logging in answers 200 with an access token of the auth service", () => {
    const body = session.answer.json();
    assert.equal(body.token_type, "Bearer");
    assert.equal(body.user.email, account.email);
    const [header, payload] = session.accessToken.split(".").map((part) => Buffer.from(part, "base64url").toString());
    assert.equal(JSON.parse(header).alg, "RS256");
    assert.equal(JSON.parse(header).typ, "at+jwt");
    assert.equal(JSON.parse(payload).iss, "auth-service");
    assert.equal(JSON.parse(payload).sub, body.user.id);
  });

  test("another implementation verifies the token with the published keys, and no other kind", async () => {
    const keys = createLocalJWKSet((await get("/.well-known/jwks.json")).json());
    const expected = { issuer: "auth-service", audience: "api", typ: "at+jwt", algorithms: ["RS256"] };
    const { payload, protectedHeader } = await jwtVerify(session.accessToken, keys, expected);
    assert.equal(payload.sub, session.user.id);
    assert.equal(payload.exp - payload.iat, 15 * 60);
    const [jwk] = (await get("/.well-known/jwks.json")).json().keys;
    assert.equal(protectedHeader.kid, await calculateJwkThumbprint(jwk));
    const pem = await get("/api/v1/auth/public-key");
    await jwtVerify(session.accessToken, await importSPKI(pem.body, "RS256"), expected);
    await assert.rejects(jwtVerify(flipBit(session.accessToken, 1, 99), keys, expected));
  });

  test("PyJWT verifies the token with the published keys too", { skip: noPython }, async () => {
    const verdicts = python("verify", {
      jwks: (await get("/.well-known/jwks.json")).json(),
      tokens: { good: session.accessToken, changed: flipBit(session.accessToken, 1, 99) },
      algorithms: ["RS256"],
      audience: "api",
      issuer: "auth-service",
    });
    assert.equal(verdicts.good.sub, session.user.id);
    assert.equal(typeof verdicts.changed, "string");
  });

  test("a wrong password is 401, the same for an account that does not exist", async () => {
    const wrong = await stack.login({ email: account.email, password: remember("not the password 1") });
    const nobody = await stack.login({
      email: "nobody@example.com",
      password: remember("not the password 2"),
    });
    assertProblem(wrong.answer, 401, "authentication_error");
    const bare = ({ request_id: _, ...problem }) => problem;
    assert.deepEqual(bare(wrong.answer.json()), bare(nobody.answer.json()));
  });

  test("me answers 200 with the user of the token", async () => {
    const answer = await get("/api/v1/auth/me", session.bearer);
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.json().user.id, session.user.id);
    assert.equal(answer.json().user.email, account.email);
  });

  test("one's own profile is 200", async () => {
    const answer = await get(`/api/v1/users/${session.user.id}`, session.bearer);
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.json().data.id, session.user.id);
    assert.equal(answer.json().data.first_name, account.first_name);
  });

  test("another's profile is 403, whether or not there is such a user", async () => {
    for (const id of [other.user.id, randomUUID()]) {
      const answer = await get(`/api/v1/users/${id}`, session.bearer);
      assertProblem(answer, 403, "permission_denied");
      assert.match(answer.headers["www-authenticate"], /insufficient_scope/);
    }
  });

  test("the list of users is 403 for a user", async () => {
    assertProblem(await get("/api/v1/users", session.bearer), 403, "permission_denied");
  });

  test("without a token it is 401, with a challenge", async () => {
    const answer = await get(`/api/v1/users/${session.user.id}`);
    assertProblem(answer, 401, "authentication_error");
    assert.match(answer.headers["www-authenticate"], /^Bearer/);
    assert.equal(answer.json().detail, "Authorization header required");
  });

  test("any one bit flipped in header, payload or signature is 401", async () => {
    const parts = session.accessToken.split(".").map((part) => Buffer.from(part, "base64url").length * 8);
    for (const [part, bits] of parts.entries()) {
      // The first, the last, and some in between at different positions within a byte.
      const chosen = [0, bits - 1, ...Array.from({ length: 10 }, (_, index) => (index * 173 + 61) % bits)];
      for (const bit of new Set(chosen)) {
        const answer = await get("/api/v1/auth/me", {
          authorization: `Bearer ${flipBit(session.accessToken, part, bit)}`,
        });
        assert.equal(answer.status, 401, `part ${part}, bit ${bit}`);
      }
    }
    assert.equal((await get("/api/v1/auth/me", session.bearer)).status, 200);
  });

  test("a refresh token in place of an access token is 401", async () => {
    assertProblem(
      await get("/api/v1/auth/me", { authorization: `Bearer ${session.refreshToken}` }),
      401,
      "authentication_error",
    );
  });

  test("an unknown path is 404", async () => {
    for (const path of ["/api/v1/unknown", "/", "/api/v1/internal/users", "/metrics"]) {
      assertProblem(await get(path, session.bearer), 404, "not_found");
    }
  });

  test("a wrong method is 405 with the methods that are allowed", async () => {
    const answer = await stack.send({
      method: "DELETE",
      path: "/api/v1/auth/login",
      headers: session.bearer,
    });
    assertProblem(answer, 405, "method_not_allowed");
    assert.deepEqual(answer.headers.allow.split(/, ?/), ["POST"]);
  });

  test("an administrator is created by the command line, never by default", async () => {
    const password = remember(`pass phrase ${randomUUID()}`);
    const create = (email, input, ...more) =>
      spawnSync(
        ORIGIN,
        ["admin", "create", "--email", email, "--password-file", "-", "--data-dir", stack.data, ...more],
        { input, encoding: "utf8" },
      );
    const short = create("root@example.com", "short\n");
    assert.notEqual(short.status, 0);
    assert.match(short.stderr, /^portcullis-origin: the password must have 8 to 128 characters$/m);
    const made = create("root@example.com", `${password}\n`);
    assert.equal(made.status, 0, made.stderr);
    assert.match(made.stdout, /^created administrator [0-9a-f-]{36}$/m);
    assert.ok(!(made.stdout + made.stderr).includes(password));
    const admin = await stack.login({ email: "root@example.com", password });
    assert.deepEqual(admin.user.roles, ["admin", "user"]);
    const list = await get("/api/v1/users?limit=100", admin.bearer);
    assert.equal(list.status, 200, list.body);
    const emails = list.json().data.map(({ email }) => email);
    assert.ok(emails.includes(account.email) && emails.includes("root@example.com"));
    assert.equal((await get(`/api/v1/users/${other.user.id}`, admin.bearer)).status, 200);
    const phrase = `${remember("another pass phrase")}\n`;
    const taken = create(account.email, phrase);
    assert.notEqual(taken.status, 0, "who registered the address first does not become an administrator by it");
    assert.match(taken.stderr, /an account with this address exists already; --promote /);
    const { account: third } = await stack.register();
    const before = await stack.login(third);
    const promoted = create(third.email, phrase, "--promote");
    assert.match(promoted.stdout, /is an administrator now; it has the given password, and all its sessions are ended/);
    await until("the earlier session is refused", async () => {
      const answer = await get("/api/v1/users", before.bearer);
      return answer.status === 401 && answer.json().code === "token_revoked";
    });
    const again = await stack.login({ email: third.email, password: phrase.trim() });
    assert.equal((await get("/api/v1/users", again.bearer)).status, 200);
  });

  test("a refresh token that is repeated at once gets the same successor", async () => {
    const { account: fresh } = await stack.register();
    const first = await stack.login(fresh);
    const refresh = async (token) => {
      const answer = await stack.send({
        method: "POST",
        path: "/api/v1/auth/refresh",
        json: { refresh_token: token },
      });
      assert.equal(answer.status, 200, answer.body);
      const tokens = answer.json();
      remember(tokens.access_token);
      return remember(tokens.refresh_token);
    };
    const [second, again] = await Promise.all([refresh(first.refreshToken), refresh(first.refreshToken)]);
    assert.equal(second, again);
    assert.notEqual(await refresh(second), second);
  });

  test("the issuer's public keys are public and hold nothing private", async () => {
    const answer = await get("/.well-known/jwks.json");
    assert.equal(answer.status, 200);
    assert.match(answer.headers["cache-control"], /max-age=\d+/);
    const { keys } = answer.json();
    assert.ok(keys.length >= 1);
    for (const key of keys) {
      for (const name of ["d", "p", "q", "dp", "dq", "qi", "k"]) assert.equal(key[name], undefined, name);
    }
  });

  test("the services, called directly with identity headers and no assertion, answer 401", async () => {
    const headers = {
      "X-User-Id": session.user.id,
      "X-User-Roles": "admin",
      "X-User-Email": account.email,
      ...session.bearer,
    };
    const paths = [`/api/v1/users/${session.user.id}`, "/api/v1/users", `/api/v1/users/${session.user.id}?x=1`];
    for (const path of paths) assert.equal((await send(stack.users.url, { path, headers })).status, 401, path);
    assert.equal((await send(stack.auth.url, { path: "/api/v1/auth/me", headers })).status, 401);
    const login = await send(stack.auth.url, { method: "POST", path: "/api/v1/auth/login", json: account });
    assert.equal(login.status, 401);
    assert.equal(login.json().code, "gateway_required");
  });

  test("a service accepts an assertion for this request only", async () => {
    const key = stack.secrets.ASSERTION_KEYS_USERS;
    const path = `/api/v1/users/${session.user.id}`;
    const who = { sub: session.user.id, email: account.email, roles: ["user"], sid: randomUUID() };
    const ask = async (assertionKey, claims) =>
      (
        await send(stack.users.url, {
          path,
          headers: {
            "x-gateway-assertion": await makeAssertion(assertionKey, {
              aud: "users",
              htu: path,
              ...who,
              ...claims,
            }),
          },
        })
      ).status;
    const now = Math.floor(Date.now() / 1000);
    assert.equal(await ask(key, {}), 200);
    assert.equal(await ask(key, { aud: "auth" }), 401, "of another upstream");
    assert.equal(await ask(key, { htu: "/api/v1/users" }), 401, "of another path");
    assert.equal(await ask(key, { htu: `${path}?a=1` }), 401, "of another query");
    assert.equal(await ask(key, { htm: "DELETE" }), 401, "of another method");
    assert.equal(await ask(key, { iss: "somebody" }), 401, "of another gateway");
    assert.equal(await ask(key, { iat: now - 300, exp: now - 270 }), 401, "of yesterday");
    assert.equal(await ask(stack.secrets.ASSERTION_KEYS_AUTH, {}), 401, "signed with another upstream's secret");
  });

  test("a token in a query, a path or a user agent is in no log", async () => {
    const token = session.accessToken;
    await get(`/api/v1/auth/me?access_token=${token}`, { ...session.bearer, "user-agent": `agent ${token}` });
    await get(`/api/v1/users/${token}`, session.bearer);
    await get(`/api/v1/users/${session.refreshToken}`, {
      ...session.bearer,
      "user-agent": `agent/${session.refreshToken} (${session.refreshToken}; x)`,
    });
    await get(`/api/v1/users/${session.user.id}?password=${encodeURIComponent(account.password)}`, session.bearer);
    await stack.send({
      method: "POST",
      path: "/api/v1/auth/login",
      headers: { "content-type": "application/json" },
      body: `{"password":"${account.password}"`,
    });
    const findings = findSecrets(listFiles(stack.logs), recorded());
    assert.deepEqual(findings, []);
    assert.ok(
      readFileSync(`${stack.logs}/edge.log`, "utf8").includes('"route":"/api/v1/auth/me"'),
      "the edge does log",
    );
  });

  test("nothing in the data directory but the secrets' files holds a token, a password or a secret", () => {
    const own = Object.values(secretFiles(stack.data));
    const files = listFiles(stack.data).filter((file) => !own.includes(file));
    assert.ok(files.some((file) => file.endsWith("auth.db")));
    assert.deepEqual(findSecrets(files, recorded()), []);
  });
});
