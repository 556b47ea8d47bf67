// The routes of the auth and user services through the gateway: sessions, passwords, rights, users created by
// administrators, versions, and the audit trail of all that.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { before, describe, test } from "node:test";

import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

describe("accounts through the gateway", () => {
  let stack, admin;

  before(async () => {
    stack = await startStack(scope);
    admin = await stack.loginAsAdmin();
  });

  const ask = (method, path, { bearer } = {}, json, headers = {}) =>
    stack.send({ method, path, json, headers: { ...bearer, ...headers } });
  const expect = async (status, ...what) => {
    const answer = await ask(...what);
    assert.equal(answer.status, status, `${what[0]} ${what[1]}: ${answer.body}`);
    return answer.body === "" ? undefined : answer.json();
  };
  const isRefused = (who) =>
    until("the token is refused", async () => (await ask("GET", "/api/v1/auth/me", who)).status === 401);

  test("a user lists their sessions, ends one, and its token is refused", async () => {
    const { account } = await stack.register();
    const [here, there] = [await stack.login(account), await stack.login(account)];
    const { sessions } = await expect(200, "GET", "/api/v1/auth/sessions", here);
    assert.equal(sessions.length, 2);
    const other = sessions.find(({ current }) => !current);
    await expect(204, "DELETE", `/api/v1/auth/sessions/${other.id}`, here);
    await isRefused(there);
    await expect(404, "DELETE", `/api/v1/auth/sessions/${other.id}`, admin);
    await expect(200, "GET", "/api/v1/auth/me", here);
  });

  test("a changed password ends every session but the current one", async () => {
    const { account } = await stack.register();
    const [here, there] = [await stack.login(account), await stack.login(account)];
    const changed = remember(`pass phrase ${randomUUID()}`);
    const wrong = { current_password: "not this one", new_password: changed };
    assert.equal((await expect(401, "POST", "/api/v1/auth/password", here, wrong)).code, "invalid_credentials");
    await expect(200, "POST", "/api/v1/auth/password", here, {
      current_password: account.password,
      new_password: changed,
    });
    await isRefused(there);
    await expect(200, "GET", "/api/v1/auth/me", here);
    await expect(401, "POST", "/api/v1/auth/login", {}, { email: account.email, password: account.password });
    await stack.login({ email: account.email, password: changed });
  });

  test("a role is created, assigned, seen in the next token and removed", async () => {
    const { account } = await stack.register();
    let ada = await stack.login(account);
    const { role } = await expect(201, "POST", "/api/v1/auth/roles", admin, { name: "editor", description: "Edits" });
    const named = { name: "edit:pages", resource: "pages", action: "edit" };
    const { permission } = await expect(201, "POST", "/api/v1/auth/permissions", admin, named);
    await expect(201, "POST", `/api/v1/auth/roles/${role.id}/permissions`, admin, { permission_id: permission.id });
    await expect(403, "POST", "/api/v1/auth/roles", ada, { name: "mine" });
    await expect(201, "POST", `/api/v1/auth/users/${ada.user.id}/roles`, admin, { role_id: role.id });
    ada = await stack.login(account);
    assert.deepEqual(ada.user.roles, ["editor", "user"]);
    const question = { user_id: ada.user.id, permission: "edit:pages" };
    assert.equal((await expect(200, "POST", "/api/v1/auth/permissions/check", ada, question)).allowed, true);
    const { permissions } = await expect(200, "GET", `/api/v1/auth/users/${ada.user.id}/permissions`, ada);
    assert.ok(permissions.includes("edit:pages"));
    await expect(204, "DELETE", `/api/v1/auth/users/${ada.user.id}/roles/${role.id}`, admin);
    await isRefused(ada);
    const renewed = await expect(200, "POST", "/api/v1/auth/refresh", {}, { refresh_token: ada.refreshToken });
    assert.deepEqual(renewed.user.roles, ["user"]);
    const profile = await until("the profile has it, too", async () => {
      const { data } = await expect(200, "GET", `/api/v1/users/${ada.user.id}`, admin);
      return data.roles.length === 1 && data;
    });
    assert.deepEqual(profile.roles, ["user"]);
  });

  test("an administrator creates users, and versions detect conflicting changes", async () => {
    const password = remember(`pass phrase ${randomUUID()}`);
    const email = `made-${randomUUID()}@example.com`;
    const { data } = await expect(201, "POST", "/api/v1/users", admin, { email, password, first_name: "Grace" });
    const grace = await stack.login({ email, password });
    const path = `/api/v1/users/${data.id}`;
    const seen = await ask("GET", path, grace);
    const { etag } = seen.headers;
    assert.match(etag, /^"\d+"$/);
    assert.equal((await ask("GET", path, grace, undefined, { "if-none-match": etag })).status, 304);
    await expect(200, "PATCH", path, grace, { last_name: "Hopper" }, { "if-match": etag });
    const late = await expect(412, "PATCH", path, grace, { last_name: "Late" }, { "if-match": etag });
    assert.equal(late.code, "version_mismatch");
    const found = await expect(200, "GET", `/api/v1/users?email=${email.slice(0, 20)}`, admin);
    assert.deepEqual(
      found.data.map(({ last_name }) => last_name),
      ["Hopper"],
    );
  });

  test("a registration that is repeated with its idempotency key gets the same answer", async () => {
    const body = { email: `again-${randomUUID()}@example.com`, password: remember(`pass phrase ${randomUUID()}`) };
    const key = { "idempotency-key": randomUUID() };
    const first = await expect(201, "POST", "/api/v1/auth/register", {}, body, key);
    assert.deepEqual(await expect(201, "POST", "/api/v1/auth/register", {}, body, key), first);
    await expect(409, "POST", "/api/v1/auth/register", {}, body);
  });

  test("a change that both services make is one trace, from the client to the last of them", async () => {
    const { account } = await stack.register();
    const ada = await stack.login(account);
    const [trace, span] = ["4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"];
    const headers = { traceparent: `00-${trace}-${span}-01` };
    await expect(200, "PATCH", `/api/v1/users/${ada.user.id}`, ada, { first_name: "A." }, headers);
    const linesOf = (name) =>
      stack
        .output(name)
        .split("\n")
        .filter((line) => line.startsWith("{") && line.includes(trace))
        .map((line) => JSON.parse(line));
    const spans = await until("each has its line", () => {
      const routes = { users: "/api/v1/users/{id}", auth: "/api/v1/internal/accounts/{id}" };
      const lines = Object.entries(routes).map(([name, route]) => linesOf(name).find((line) => line.route === route));
      return lines.every(Boolean) && lines.map((line) => line.span_id);
    });
    assert.equal(new Set([span, ...spans]).size, 3, "each call has a span of its own");
    const { events } = await expect(200, "GET", "/api/v1/auth/audit?event_type=account.change", admin);
    assert.ok(events.some((event) => event.trace_id === trace));
  });

  test("all of it is in the audit trail, for administrators only", async () => {
    const { events } = await expect(200, "GET", "/api/v1/auth/audit?limit=100", admin);
    const types = new Set(events.map(({ event_type: type }) => type));
    for (const type of [
      "auth.login",
      "auth.register",
      "auth.password.change",
      "session.end",
      "role.create",
      "user.role.revoke",
    ]) {
      assert.ok(types.has(type), `${type} of ${[...types]}`);
    }
    // Entries of the command line have no request.
    const asked = events.filter(({ operation }) => /^(POST|PUT|PATCH|DELETE|GET) /.test(operation));
    assert.ok(asked.length > 10 && asked.every(({ request_id: id }) => id !== null));
    const { account } = await stack.register();
    await expect(403, "GET", "/api/v1/auth/audit", await stack.login(account));
  });
});
