// Cross-origin requests: only what the policy lists, preflights without a token, and no CORS headers of an
// upstream.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startGateway } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

const GOOD = "https://app.example";

describe("cross-origin requests", () => {
  let users, edge, token;

  before(async () => {
    const gateway = await startGateway(scope, { policy: "browser" });
    ({ users, edge } = gateway);
    token = await gateway.issuer.accessToken();
    // An upstream that allows every origin.
    users.answer((_request, response) => {
      response.writeHead(200, {
        "access-control-allow-origin": "*",
        "access-control-allow-credentials": "true",
        vary: "Accept-Encoding",
      });
      response.end("{}");
    });
  });

  const cors = ({ headers }) =>
    Object.fromEntries(
      Object.entries(headers).filter(([name]) => name.startsWith("access-control-") || name === "vary"),
    );
  const preflight = (path, origin, method = "GET") =>
    edge.send({
      method: "OPTIONS",
      path,
      headers: { origin, "access-control-request-method": method, "access-control-request-headers": "x-thing" },
    });

  test("a preflight of a listed origin is answered without a token, and reaches no service", async () => {
    users.forget();
    for (const origin of [GOOD, "https://a.shop.example", "https://a.b.shop.example"]) {
      const answer = await preflight("/private", origin, "PUT");
      assert.equal(answer.status, 204);
      assert.equal(answer.body, "");
      assert.deepEqual(cors(answer), {
        "access-control-allow-origin": origin,
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, PUT",
        "access-control-allow-headers": "authorization, content-type, x-thing",
        "access-control-max-age": "300",
        vary: "Origin",
      });
    }
    assert.equal(users.requests.length, 0);
  });

  test("nothing else gets CORS headers", async () => {
    users.forget();
    for (const [path, origin, method, status] of [
      ["/private", "null", "GET", 403],
      ["/private", "https://app.example.evil", "GET", 403],
      ["/private", "https://evil.example", "GET", 403],
      ["/private", "http://app.example", "GET", 403],
      ["/private", "https://shop.example", "GET", 403],
      ["/private", "https://evilshop.example", "GET", 403],
      ["/closed", GOOD, "GET", 405],
      ["/nowhere", GOOD, "GET", 404],
    ]) {
      const answer = await preflight(path, origin, method);
      assert.equal(answer.status, status, `${path} ${origin} ${method}`);
      const said = Object.keys(cors(answer)).filter((name) => name !== "vary");
      assert.deepEqual(said, [], `${path} ${origin}`);
    }
    // A listed origin's page may learn that the method is invalid.
    const answer = await preflight("/private", GOOD, "DELETE");
    assert.equal(answer.status, 405);
    assert.equal(answer.headers["access-control-allow-methods"], undefined);
    assert.equal(users.requests.length, 0);
  });

  test("an answer allows the listed origin only, whatever the upstream says", async () => {
    const ask = (path, origin) => edge.get(path, { token, headers: origin === undefined ? {} : { origin } });
    const listed = await ask("/private", GOOD);
    assert.equal(listed.status, 200);
    assert.deepEqual(cors(listed), {
      "access-control-allow-origin": GOOD,
      "access-control-allow-credentials": "true",
      "access-control-expose-headers": "x-request-id",
      vary: "Accept-Encoding, Origin",
    });
    for (const origin of ["https://evil.example", "null", undefined]) {
      assert.deepEqual(cors(await ask("/private", origin)), { vary: "Accept-Encoding, Origin" }, `${origin}`);
    }
    assert.deepEqual(cors(await ask("/closed", GOOD)), { vary: "Accept-Encoding" }, "a route without a policy");
    assert.deepEqual(cors(await ask("/open", "https://whoever.example")), {
      "access-control-allow-origin": "*",
      "access-control-expose-headers": "x-request-id, retry-after",
      vary: "Accept-Encoding, Origin",
    });
  });

  test("a page can read a refusal too", async () => {
    const answer = await edge.get("/private", { headers: { origin: GOOD } });
    assert.equal(answer.status, 401);
    assert.equal(answer.headers["access-control-allow-origin"], GOOD);
    assert.equal(answer.json().code, "credentials_missing");
  });

  test("a preflight with a long body is answered like any other", async () => {
    const headers = { origin: GOOD, "access-control-request-method": "PUT" };
    const answer = await edge.send({ method: "OPTIONS", path: "/private", headers, body: "x".repeat(200_000) });
    assert.equal(answer.status, 204);
  });

  test("a forged identity in a preflight reaches no service", async () => {
    users.forget();
    const answer = await edge.send({
      method: "OPTIONS",
      path: "/private",
      headers: { origin: GOOD, "access-control-request-method": "GET", "x-user-id": "root", "x-user-roles": "admin" },
    });
    assert.equal(answer.status, 204);
    assert.equal(users.requests.length, 0);
    for (const name of Object.keys(answer.headers)) assert.doesNotMatch(name, /^x-user/);
  });
});
