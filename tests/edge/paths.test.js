// The path that is decided on is the path that is forwarded: an ambiguous path is refused, and no spelling of
// a path gets another path's rule.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { readAssertion } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startGateway } from "../harness/edge.js";
import { sendBytes } from "../harness/http.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

describe("request targets and methods", () => {
  let auth, users, issuer, edge, claims, token;

  before(async () => {
    ({ auth, users, issuer, edge } = await startGateway(scope));
    claims = issuer.claims();
    token = await issuer.sign(claims);
    // The keys are cached from here on: all requests that reach a service are those of the tests.
    assert.equal((await edge.get("/ready")).status, 200);
  });

  test("a hostile spelling is refused, or is a different path from the one it imitates", async () => {
    // The runtime reads `..` and `\` as browsers do, before the gateway sees the
    // target; the result is decided on and forwarded.
    for (const [path, expected] of [
      ["//api/v1/users", [400]],
      ["/api/v1//users", [400]],
      ["/%2Fapi/v1/users", [400]],
      ["/api/v1%2Fusers", [400]],
      ["/%5Capi/v1/users", [400]],
      ["/api/v1/users%00", [400]],
      ["/api/v1/users%23", [400]],
      ["/api/v1/users%3Fx", [400]],
      ["/api/v1/users%0d%0aX-User-Roles:admin", [400]],
      ["/api/v1/%252e%252e/users", [400]],
      ["/api/v1/%c0%af/users", [400]],
      ["/api/v1/x/..;/users", [400]],
      ["/api/v1/x/.;/users", [400]],
      ["/api/v1/x/..%3b/users", [400]],
      ["/api/v1/us%zzers", [400]],
      ["/api/v1/x/../users", [403, 400]],
      ["/api/v1/x/%2e%2e/users", [403, 400]],
      ["/api/v1/x\\..\\users", [403, 400]],
      ["/api/v1/%75sers", [403]],
      ["/API/v1/users", [404]],
      ["/api/v1/users/", [404]],
      ["/api/v1/users/.", [404, 400]],
      ["/api/v1/users.", [404]],
      ["/api/v1/users;x=1", [400]],
      ["/api/v1/auth/me/../../users", [403, 400]],
      ["/health/../api/v1/users", [403, 400]],
      [`/api/v1/${"a".repeat(5000)}`, [414]],
      [`/api/v1/users?${"a".repeat(9000)}`, [414]],
    ]) {
      users.forget();
      auth.forget();
      // A user without the role that the list of users requires.
      const answer = await edge.get(path, { token });
      assert.ok(expected.includes(answer.status), `${path}: ${answer.status}`);
      assert.equal(users.requests.length + auth.requests.length, 0, `${path} reached a service`);
    }
  });

  const resolved = { skip: onlyOnPlatform("workerd alone resolves no dot segments: they are 400") };
  test("the forwarded path is the one decided on and asserted", resolved, async () => {
    for (const [sent, forwarded] of [
      [`/api/v1/users/${claims.sub}`, `/api/v1/users/${claims.sub}`],
      [`/api/v1/%75sers/${claims.sub}`, `/api/v1/users/${claims.sub}`],
      [`/api/v1/x/../users/${claims.sub}`, `/api/v1/users/${claims.sub}`],
      [`/api/v1/users/${claims.sub}?a=1&b=%20&c=é`, `/api/v1/users/${claims.sub}?a=1&b=%20&c=%C3%A9`],
      [`/api/v1/users/${claims.sub}?q='x'|y`, `/api/v1/users/${claims.sub}?q=%27x%27|y`],
    ]) {
      users.forget();
      const answer = await edge.get(Buffer.from(sent).toString("latin1"), { token });
      assert.equal(answer.status, 200, sent);
      const [seen] = users.requests;
      assert.equal(seen.path, forwarded);
      const { claims: asserted } = await readAssertion(seen.assertion, edge.assertionKeys.users, "users");
      assert.equal(asserted.htu, forwarded);
    }
  });

  test("a user's own path in another spelling is that user's only", async () => {
    const encoded = `%${claims.sub.charCodeAt(0).toString(16)}${claims.sub.slice(1)}`;
    assert.equal((await edge.get(`/api/v1/users/${encoded}`, { token })).status, 200);
    assert.equal(users.requests.at(-1).path, `/api/v1/users/${claims.sub}`);
    for (const path of [
      `/api/v1/users/${claims.sub.toUpperCase()}x`,
      `/api/v1/users/${claims.sub}%20`,
      `/api/v1/users/00000000-0000-4000-8000-000000000000`,
    ])
      assert.equal((await edge.get(path, { token })).status, 403, path);
  });

  test("methods are used as sent, and overrides are ignored", async () => {
    const own = `/api/v1/users/${claims.sub}`;
    for (const [method, expected] of [
      ["GET", 200],
      ["HEAD", 200],
      ["PUT", 200],
      ["PATCH", 200],
      ["DELETE", 200],
      ["POST", 405],
      ["OPTIONS", 405],
      ["PURGE", 405],
      ["QUERY", 405],
    ]) {
      users.forget();
      const answer = await edge.send({ method, path: own, headers: { authorization: `Bearer ${token}` } });
      assert.equal(answer.status, expected, method);
      if (expected === 200) assert.equal(users.requests[0].method, method);
      else {
        assert.equal(answer.headers.allow, "DELETE, GET, HEAD, PATCH, PUT");
        assert.equal(users.requests.length, 0, method);
      }
    }
    const answer = await edge.send({
      method: "GET",
      path: own,
      headers: { authorization: `Bearer ${token}`, "x-http-method-override": "DELETE", "x-method-override": "DELETE" },
    });
    assert.equal(answer.status, 200);
    const seen = users.requests.at(-1);
    assert.equal(seen.method, "GET");
    for (const name of Object.keys(seen.headers)) assert.doesNotMatch(name, /override/);
  });

  test("a method in lower case is another method, or invalid HTTP", async () => {
    const bytes = `get /api/v1/users/${claims.sub} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`;
    users.forget();
    const answer = await sendBytes(edge.url, bytes);
    assert.match(answer, /^HTTP\/1\.1 (?:400|405|501) /);
    assert.equal(users.requests.length, 0);
  });

  test("too many or too large headers are 431 or refused by the runtime", async () => {
    users.forget();
    const many = Array.from({ length: 101 }, (_, index) => [`x-${index}`, "1"]);
    assert.equal((await edge.get("/health", { headers: many })).status, 431);
    const large = [["x-large", "a".repeat(33 * 1024)]];
    assert.ok([400, 431].includes((await edge.get("/health", { headers: large })).status));
  });
});
