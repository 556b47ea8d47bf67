// Requests that are checked against an OpenAPI document before they reach the service. What the validators find is in
// tests/scripts/validators.test.js.

import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const DOCUMENT = `openapi: 3.1.0
info: { title: Shop, version: "1" }
servers: [{ url: /v1 }]
paths:
  /orders:
    parameters: [{ in: query, name: limit, schema: { type: integer, maximum: 100 } }]
    get: { responses: { 200: { description: ok } } }
    post:
      requestBody:
        required: true
        content:
          application/json: { schema: { $ref: "#/components/schemas/Order" } }
          multipart/form-data: {}
      responses: { 200: { description: ok } }
  /orders/{id}:
    delete:
      parameters: [{ in: path, name: id, required: true, schema: { type: string, format: uuid } }]
      responses: { 200: { description: ok } }
components:
  schemas:
    Order:
      type: object
      required: [item]
      properties: { item: { type: string, pattern: "^[a-z]+$" }, note: { type: string } }
      additionalProperties: false
`;

const policy = (keys) => `
[issuers.id]
issuer = "id"
audience = ["api"]
algorithms = ["RS256"]
jwks = ${JSON.stringify(JSON.stringify(keys))}

[upstreams.users]
url = "http://127.0.0.1:1"
openapi = "shop.yaml"
body_timeout_ms = 2000

[[routes]]
path = "/shop/orders"
methods = ["GET", "POST"]
upstream = "users"
access = "public"
validate = true
variants = { allow = "the test compares it with a route without validation" }
replace_prefix = { from = "/shop", to = "/v1" }

[[routes]]
path = "/shop/orders/{id}"
methods = ["DELETE"]
upstream = "users"
access = "user"
validate = true
replace_prefix = { from = "/shop", to = "/v1" }

[[routes]]
path = "/unchecked/orders"
methods = ["GET", "POST"]
upstream = "users"
access = "public"
replace_prefix = { from = "/unchecked", to = "/v1" }
`;

const ID = "0b2e5d1c-9a43-4a39-8a52-0d6d8f6b2d11";

describe("a request of a route with validation", () => {
  let users, edge, issuer;

  before(async () => {
    users = await startUpstream(scope);
    issuer = await createIssuer({ name: "id" });
    const text = policy(issuer.jwks());
    const vars = { POLICY_REREAD_S: "1" };
    edge = await startEdge(scope, { users, vars, policy: { text, files: { "shop.yaml": DOCUMENT } } });
  });

  const post = (body, headers = { "content-type": "application/json" }) =>
    edge.send({ method: "POST", path: "/shop/orders", body, headers });
  const refusalOf = async (answer) => {
    const { code, errors } = answer.json();
    const count = users.requests.length;
    const line = await edge.lineOf(answer);
    assert.deepEqual([line.code, line.status], [code, answer.status]);
    assert.equal(users.requests.length, count);
    return [answer.status, code, errors];
  };

  test("is forwarded unchanged, with a length and without", async () => {
    const body = ' {"item" :"pen",\n"note":"\\u00e9é"} ';
    for (const given of [body, Readable.from([body.slice(0, 9), body.slice(9)])]) {
      const answer = await post(given);
      assert.equal(answer.status, 200, answer.body);
      const seen = users.requests.at(-1);
      assert.deepEqual([seen.method, seen.path, seen.body], ["POST", "/v1/orders", body]);
      assert.equal(seen.headers["content-type"], "application/json");
    }
    const { status } = await edge.get("/shop/orders?limit=7");
    assert.deepEqual([status, users.requests.at(-1).path], [200, "/v1/orders?limit=7"]);
    assert.equal((await edge.send({ method: "HEAD", path: "/shop/orders?limit=7" })).status, 200);
  });

  test("is refused with what the document wants, and without a value of the request", async () => {
    users.requests.length = 0;
    for (const [answer, status, errors] of [
      [
        await post('{"item":"SECRET-7"}'),
        400,
        [{ in: "body", pointer: "/item", message: 'must match pattern "^[a-z]+$"' }],
      ],
      [
        await post('{"item":"pen","SECRET-7":1}'),
        400,
        [{ in: "body", pointer: "", message: "must NOT have additional properties" }],
      ],
      [
        await post('{"item":"pen","item":"SECRET-7"}'),
        400,
        [{ in: "body", pointer: "/item", message: "is there twice" }],
      ],
      [await post("SECRET-7"), 400, [{ in: "body", pointer: "", message: "is not JSON" }]],
      [await post(""), 400, [{ in: "body", pointer: "", message: "is required" }]],
      [
        await post('{"item":"pen"}', { "content-type": "text/SECRET-7" }),
        415,
        [{ in: "header", name: "content-type", message: "must be application/json or multipart/form-data" }],
      ],
      [
        await edge.get("/shop/orders?limit=SECRET-7"),
        400,
        [{ in: "query", name: "limit", message: "must be integer" }],
      ],
    ]) {
      assert.deepEqual(await refusalOf(answer), [status, "request_invalid", errors]);
      assert.equal(answer.headers["content-type"], "application/problem+json");
      assert.ok(!answer.body.includes("SECRET-7"), answer.body);
    }
    assert.equal(users.requests.length, 0);
    // The query is in no line.
    assert.ok(!edge.output.includes("SECRET-7"));
  });

  test("has a bound for JSON, and none for other bodies", async () => {
    const long = JSON.stringify({ item: "x".repeat(64 * 1024) });
    const longer = "z".repeat(8 * 1024 * 1024);
    for (const body of [long, Readable.from([long]), longer, Readable.from([longer])]) {
      assert.deepEqual(await refusalOf(await post(body)), [413, "body_too_large", undefined]);
    }
    const form = `--b\r\ncontent-disposition: form-data; name=a\r\n\r\n${"y".repeat(300 * 1024)}\r\n--b--\r\n`;
    const answer = await post(form, { "content-type": "multipart/form-data; boundary=b" });
    assert.equal(answer.status, 200, answer.body);
    assert.equal(users.requests.at(-1).body, form);
  });

  test("has a time for its body", async () => {
    const slow = new Readable({ read() {} });
    slow.push('{"item":');
    assert.deepEqual(await refusalOf(await post(slow)), [408, "body_too_slow", undefined]);
    slow.push(null);
  });

  test("tells strangers nothing of the document", async () => {
    const path = "/shop/orders/7";
    const stranger = await edge.send({ method: "DELETE", path });
    assert.deepEqual(
      [stranger.status, stranger.json().code, stranger.json().errors],
      [401, "credentials_missing", undefined],
    );
    const token = await issuer.accessToken({ sub: "ada" });
    const headers = { authorization: `Bearer ${token}` };
    const answer = await edge.send({ method: "DELETE", path, headers });
    const errors = [{ in: "path", name: "id", message: 'must match format "uuid"' }];
    assert.deepEqual(await refusalOf(answer), [400, "request_invalid", errors]);
    assert.equal((await edge.send({ method: "DELETE", path: `/shop/orders/${ID}`, headers })).status, 200);
  });

  test("does not change requests of other routes", async () => {
    const answer = await edge.send({ method: "POST", path: "/unchecked/orders?limit=x", body: "[", headers: {} });
    assert.deepEqual([answer.status, users.requests.at(-1).body], [200, "["]);
  });

  test("cannot be checked by a document that was pushed", async () => {
    const route = { path: "/pushed", methods: ["GET"], upstream: "users", access: "public" };
    const push = async (upstream, more, reason) => {
      const upstreams = { users: { url: "http://127.0.0.1:1", ...upstream } };
      await (await edge.kv()).put("policy/current", JSON.stringify({ upstreams, routes: [{ ...route, ...more }] }));
      await until(String(reason), async () => reason.test((await edge.get("/status")).json().policy_fault ?? "none"));
    };
    await push(
      { openapi_digest: "0000000000000000" },
      { validate: true },
      /has another OpenAPI document than the Worker/,
    );
    await push({}, { validate: true }, /validate needs the OpenAPI document/);
    await push({ openapi: "shop.yaml" }, {}, /unknown field `openapi`/);
    assert.equal((await edge.get("/shop/orders?limit=x")).status, 400);
    await push({}, {}, /^none$/);
    assert.equal((await edge.get("/shop/orders")).status, 404);
  });
});
