// Tokens that are revoked early, with the real auth service: a session that ends, in whatever way, is refused
// at the edge, and no crash loses it.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

describe("a session that ends is refused at the edge", () => {
  let stack, account;

  before(async () => {
    // Makes a second use of a refresh token count as reuse at once.
    stack = await startStack(scope, { env: { REFRESH_REUSE_S: "0" } });
    ({ account } = await stack.register());
  });

  // A route of the user service, which knows no sessions: only the gateway can refuse.
  const profile = (session) => stack.send({ path: `/api/v1/users/${session.user.id}`, headers: session.bearer });
  const isRefused = async (session) => {
    const answer = await profile(session);
    return answer.status === 401 && answer.json().code === "token_revoked";
  };
  const login = async () => {
    const session = await stack.login(account);
    assert.equal((await profile(session)).status, 200);
    return session;
  };
  const logout = (session, json) =>
    stack.send({ method: "POST", path: "/api/v1/auth/logout", headers: session.bearer, json });

  test("by logging out, at once and on another connection", async () => {
    const session = await login();
    const bystander = await login();
    assert.equal((await logout(session)).status, 200);
    const answer = await profile(session);
    assert.equal(answer.status, 401);
    assert.equal(answer.json().detail, "Token has been revoked");
    assert.match(answer.headers["www-authenticate"], /error="invalid_token"/);
    assert.equal((await profile(bystander)).status, 200);
  });

  test("by logging out elsewhere with its refresh token", async () => {
    const [here, elsewhere] = [await login(), await login()];
    assert.equal((await logout(here, { refresh_token: elsewhere.refreshToken })).status, 200);
    await until("the other session is refused", () => isRefused(elsewhere));
  });

  test("by a refresh token that is used twice", async () => {
    const session = await login();
    const refresh = () =>
      stack.send({
        method: "POST",
        path: "/api/v1/auth/refresh",
        json: { refresh_token: session.refreshToken },
      });
    const second = (await refresh()).json();
    for (const token of [second.access_token, second.refresh_token]) remember(token);
    await until("the reuse is one", async () => (await refresh()).json().code === "token_revoked");
    await until("its tokens are refused", () => isRefused(session));
    const heir = { user: session.user, bearer: { authorization: `Bearer ${second.access_token}` } };
    assert.ok(await isRefused(heir), "and the thief's, or the owner's");
  });

  test("by the end of all sessions, after which a new login works", async (t) => {
    const took = [];
    for (let round = 0; round < 5; round += 1) {
      const [one, two] = [await login(), await login()];
      assert.equal((await stack.internal("POST", `/api/v1/internal/accounts/${one.user.id}/revoke`)).status, 204);
      const ended = Date.now();
      await until("the first is refused", () => isRefused(one));
      took.push(Date.now() - ended);
      assert.ok(await isRefused(two));
      await login();
    }
    t.diagnostic(`refused after ${took.sort((a, b) => a - b).join(", ")} ms`);
  });

  test("by the end of the account", async () => {
    const { account: other } = await stack.register();
    const session = await stack.login(other);
    const path = `/api/v1/users/${session.user.id}`;
    assert.equal((await stack.send({ method: "DELETE", path, headers: session.bearer })).status, 204);
    await until("its token is refused", () => isRefused(session));
  });

  test("after a restart of the edge as before it", async () => {
    const session = await login();
    assert.equal((await logout(session)).status, 200);
    await stack.edge.restart();
    await until("it is refused", () => isRefused(session));
  });

  test("although the edge was down, and the auth service crashed before it was up", async () => {
    const session = await login();
    await stack.edge.stop();
    assert.equal((await stack.internal("POST", `/api/v1/internal/accounts/${session.user.id}/revoke`)).status, 204);
    process.kill(stack.auth.pid, "SIGKILL");
    await stack.auth.stop();
    await stack.auth.start();
    await stack.edge.start();
    await until("it is refused", () => isRefused(session));
    await login();
  });
});
