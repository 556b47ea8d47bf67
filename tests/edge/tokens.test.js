// The table of tokens, signed for the current time, at the running gateway: each gets the status and code of
// the table, and a refused one reaches no service. The native tests check the same table in Rust.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { readAssertion } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { ISSUER, USER, b64, makeCases, makeJwks, makeKeys } from "../vectors/cases.js";

const ME = "/api/v1/auth/me";
const JWKS = "/.well-known/jwks.json";

const scope = fileScope();

describe("tokens at the running gateway", () => {
  let auth, users, edge, keys, cases;

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    keys = makeKeys();
    auth.answer(`GET ${JWKS}`, { json: makeJwks(keys) });
    edge = await startEdge(scope, { auth, users });
    cases = await makeNow();
  });

  const makeNow = () => makeCases(keys, Math.floor(Date.now() / 1000));
  const named = (name) => remember(cases.find(([known]) => known === name)[1]);
  const passed = () => auth.requests.filter(({ path }) => path !== JWKS).length;

  // One test for all cases, because they are made in `before`, after the tests are registered. A failed case
  // is named.
  test("each token of the table is accepted or refused as it says", async () => {
    const failures = [];
    for (const [name, token, expected] of cases) {
      remember(token);
      auth.forget();
      const answer = await edge.get(ME, { token });
      const taken = expected === "ok";
      const said = answer.status === 200 ? "ok" : (answer.json().code ?? answer.status);
      const isRight = answer.status === (taken ? 200 : 401) && said === expected && passed() === (taken ? 1 : 0);
      if (!isRight) failures.push(`${name}: ${answer.status} ${said}, ${passed()} forwarded`);
    }
    assert.deepEqual(failures, []);
    assert.ok(cases.length > 140, `${cases.length} cases`);
  });

  test("roles arrive in a header if it is unambiguous, otherwise in the assertion only", async () => {
    for (const [name, header] of [
      ["a role with a comma", "CN=admins%2COU=groups%2CDC=example%2CDC=com"],
      ["a role that is not ASCII", "Gr%C3%B6%C3%9Fe"],
      ["roles a string", "user"],
      ["roles null", ""],
      ["200 group ids", undefined],
    ]) {
      auth.forget();
      const token = remember(named(name));
      assert.equal((await edge.get(ME, { token })).status, 200, name);
      const seen = auth.requests.find(({ path }) => path === ME);
      assert.equal(seen.headers["x-user-roles"], header, name);
      const { claims } = await readAssertion(seen.assertion, edge.assertionKeys.auth, "auth");
      const { roles } = JSON.parse(Buffer.from(token.split(".")[1], "base64url"));
      assert.deepEqual(claims.roles, [roles ?? []].flat(), name);
    }
  });

  test("a refusal says nothing about the token", async () => {
    const token = remember(named("roles changed, signature kept"));
    const answer = await edge.get(ME, { token });
    assert.equal(answer.status, 401);
    assert.match(answer.headers["www-authenticate"], /^Bearer .*error="invalid_token"/);
    assert.match(answer.headers["content-type"], /^application\/problem\+json/);
    assert.equal(answer.headers["cache-control"], "no-store");
    for (const part of token.split(".")) assert.ok(!answer.body.includes(part));
    for (const text of [USER, ISSUER, "admin"]) assert.ok(!answer.body.includes(text), text);
  });

  test("credentials that are not one bearer token are 401", async () => {
    const token = named("a good token");
    for (const [name, headers, path = ME] of [
      ["none", []],
      ["Basic", [["authorization", `Basic ${b64("ada:secret")}`]]],
      ["Bearer with nothing", [["authorization", "Bearer"]]],
      ["a bare token", [["authorization", token]]],
      [
        "two headers",
        [
          ["authorization", `Bearer ${token}`],
          ["authorization", `Bearer ${token}`],
        ],
      ],
      ["two tokens with a comma", [["authorization", `Bearer ${token}, Bearer ${token}`]]],
      ["two tokens with a blank", [["authorization", `Bearer ${token} ${token}`]]],
      ["in the query", [], `${ME}?access_token=${token}`],
      ["in a cookie", [["cookie", `access_token=${token}`]]],
      ["in another header", [["x-access-token", token]]],
    ]) {
      auth.forget();
      const answer = await edge.send({ path, headers });
      assert.equal(answer.status, 401, name);
      assert.equal(passed(), 0, name);
    }
  });

  test("1,000 random key ids in a burst cost one fetch, and known keys stay good", async () => {
    const token = named("a good token");
    assert.equal((await edge.get(ME, { token })).status, 200);
    auth.forget();
    const [, payload, signature] = token.split(".");
    const ask = async (count) => {
      const header = { alg: "RS256", typ: "at+jwt", kid: `unknown-${count}` };
      return edge.get(ME, { token: `${b64(JSON.stringify(header))}.${payload}.${signature}` });
    };
    for (let round = 0; round < 20; round += 1) {
      const answers = await Promise.all(Array.from({ length: 50 }, (_, index) => ask(round * 50 + index)));
      for (const { status, body } of answers) assert.equal(status, 401, body);
    }
    assert.ok(auth.requests.filter(({ path }) => path === JWKS).length <= 1);
    assert.equal((await edge.get(ME, { token })).status, 200);
  });

  test("a valid token among unknown key ids waits for none of them", async (t) => {
    const token = named("a good token");
    const [, payload, signature] = token.split(".");
    const unknown = (count) => {
      const header = { alg: "RS256", typ: "at+jwt", kid: `unknown again ${count}` };
      return edge.get(ME, { token: `${b64(JSON.stringify(header))}.${payload}.${signature}` });
    };
    // Held until released: a request that waited for the issuer would wait for ever.
    let release;
    const held = new Promise((resolve) => (release = resolve));
    await edge.restart();
    assert.equal((await edge.get(ME, { token })).status, 200);
    auth.answer(`GET ${JWKS}`, async (_request, response) => {
      await held;
      response.writeHead(503).end();
    });
    const honest = async (before = () => {}) => {
      const took = [];
      for (let count = 0; count < 500; count += 1) {
        await before(count);
        const began = performance.now();
        assert.equal((await edge.get(ME, { token })).status, 200);
        took.push(performance.now() - began);
      }
      return took.sort((a, b) => a - b)[took.length / 2];
    };
    const alone = await honest();
    const pending = [];
    const with401s = await honest(() => pending.push(edge.get(ME), edge.get(ME)));
    const withUnknown = await honest((count) => pending.push(unknown(2 * count), unknown(2 * count + 1)));
    t.diagnostic(
      `median of an honest request: ${alone.toFixed(2)} ms alone, ${with401s.toFixed(2)} ms with 1,000 without a token, ${withUnknown.toFixed(2)} ms with 1,000 unknown key ids`,
    );
    release();
    for (const answer of await Promise.all(pending)) assert.ok([401, 503].includes(answer.status));
    auth.answer(`GET ${JWKS}`, { json: makeJwks(keys) });
  });

  test("the Rust check, enabled by its variable, decides all signatures alike", async () => {
    await edge.restart({ vars: { SIGNATURE_BACKEND: "rust" } });
    const failures = [];
    for (const [name, token, expected] of await makeNow()) {
      remember(token);
      if (expected !== "ok" && expected !== "token_signature_invalid") continue;
      const answer = await edge.get(ME, { token });
      if (answer.status !== (expected === "ok" ? 200 : 401)) failures.push(`${name}: ${answer.status}`);
    }
    assert.deepEqual(failures, []);
  });
});
