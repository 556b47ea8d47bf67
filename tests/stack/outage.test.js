// The auth service stops and starts again: issued tokens keep working, logins get Retry-After, and nothing
// needs a restart.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Milliseconds: how long the service is down during a restart, and how soon afterwards the gateway sends
// requests to it again.
const RESTART_MS = 2_000;
const FOUND_MS = 4_000;

// The longest wait of a login until it fails, in milliseconds.
const LOGIN_MS = 6_000;

describe("the auth service stops and starts again", () => {
  let stack, account, session;

  const profile = () => stack.send({ path: `/api/v1/users/${session.user.id}`, headers: session.bearer });

  before(async () => {
    stack = await startStack(scope);
    ({ account } = await stack.register());
    session = await stack.login(account);
    assert.equal((await profile()).status, 200);
    await stack.auth.stop();
  });

  test("a token issued before still reads profiles", async () => {
    const answer = await profile();
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.json().data.id, session.user.id);
  });

  test("a login is 503 with Retry-After, soon", async () => {
    const began = process.hrtime.bigint();
    const { answer } = await stack.login(account);
    const took = Number((process.hrtime.bigint() - began) / 1_000_000n);
    assert.equal(answer.status, 503, answer.body);
    assert.match(answer.headers["retry-after"], /^[1-9]\d*$/);
    assert.equal(answer.json().detail, "Authentication service unavailable");
    // A promise of the product, not a race: a refused connection fails at once.
    assert.ok(took < LOGIN_MS, `it took ${took} ms`);
  });

  test("an edge that starts meanwhile has the keys from KV", async () => {
    await stack.edge.restart();
    const answer = await profile();
    assert.equal(answer.status, 200, answer.body);
  });

  test("a login works as soon as the auth service is back, without restarting the edge", async () => {
    const edge = stack.edge.pid;
    await stack.auth.start();
    const again = await stack.login(account);
    assert.equal(again.answer.status, 200, again.answer.body);
    assert.equal((await stack.send({ path: "/api/v1/auth/me", headers: again.bearer })).status, 200);
    assert.equal((await profile()).status, 200, "the old token is as good as before");
    assert.equal(stack.edge.pid, edge);
  });

  test("after a kill -9 and a restart within two seconds it answers again within four", async (t) => {
    const me = () => stack.send({ path: "/api/v1/auth/me", headers: session.bearer });
    session = await stack.login(account);
    process.kill(stack.auth.pid, "SIGKILL");
    const killed = Date.now();
    await until("the breaker opens", async () => (await me()).json().code === "upstream_resting", RESTART_MS);
    // Clients keep asking, and each failed probe doubles the wait.
    while (Date.now() - killed < RESTART_MS - 200) await me();
    await stack.auth.start();
    const back = Date.now();
    await until("it is asked again", async () => (await me()).status === 200, 10 * FOUND_MS);
    const took = Date.now() - back;
    t.diagnostic(`away for ${back - killed} ms, found again ${took} ms after its return`);
    assert.ok(took < FOUND_MS, `${took} ms`);
    for (let count = 0; count < 10; count += 1) assert.equal((await me()).status, 200);
  });
});
