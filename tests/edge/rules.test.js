// Rules of routes and upstreams besides access: headers that are set and removed, stalled answers,
// maintenance.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";

import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Milliseconds; policies/rules.toml.
const IDLE_MS = 400;

describe("rules of routes and upstreams", () => {
  let auth, users, edge;

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    edge = await startEdge(scope, { auth, users, policy: "rules" });
  });

  test("headers of a request are set and removed, on that route only", async () => {
    const headers = { "x-tenant": "forged", "x-debug": "1", "accept-language": "de" };
    await edge.send({ path: "/rules", headers });
    const seen = users.requests.at(-1).headers;
    assert.equal(seen["x-tenant"], "shop");
    assert.equal(seen["accept-language"], "en");
    assert.equal(seen["x-debug"], undefined);
    await edge.send({ path: "/plain", headers });
    const plain = users.requests.at(-1).headers;
    assert.deepEqual([plain["x-tenant"], plain["x-debug"], plain["accept-language"]], ["forged", "1", "de"]);
  });

  test("no other spelling of a header that a rule sets or removes reaches the service", async () => {
    for (const byte of "!#$%&'*+.^_`|~") {
      await edge.send({ path: "/rules", headers: { [`x${byte}tenant`]: "forged", [`x${byte}debug`]: "1" } });
      const seen = users.requests.at(-1).headers;
      assert.equal(seen["x-tenant"], "shop");
      const others = Object.keys(seen).filter((name) => /^x.(?:tenant|debug)$/.test(name) && name !== "x-tenant");
      assert.deepEqual(others, [], byte);
    }
  });

  test("identity headers of a preflight that a route passes on never reach the service", async () => {
    const headers = {
      "X.User.Id": "forged",
      "X-User-Roles": "forged",
      "Remote-User": "forged",
      "X-Acting-User": "forged",
    };
    const answer = await edge.send({
      method: "OPTIONS",
      path: "/plain",
      headers: { ...headers, origin: "https://a.example" },
    });
    assert.equal(answer.status, 200);
    const seen = users.requests.at(-1);
    assert.equal(seen.method, "OPTIONS");
    assert.deepEqual(
      Object.entries(seen.headers).filter(([, value]) => value === "forged"),
      [],
    );
  });

  test("headers of an answer are set and removed, on that route only", async () => {
    const headers = { server: "thing/1", "set-cookie": ["a=1", "b=2"], "cache-control": "public", "x-other": "kept" };
    users.answer("/rules", { headers, json: {} }).answer("/plain", { headers, json: {} });
    const ruled = await edge.send({ path: "/rules" });
    assert.equal(ruled.headers["cache-control"], "no-store");
    assert.equal(ruled.headers["x-frame-options"], "DENY");
    assert.equal(ruled.headers["x-other"], "kept");
    assert.equal(ruled.headers.server, undefined);
    assert.equal(ruled.headers["set-cookie"], undefined);
    const plain = await edge.send({ path: "/plain" });
    assert.equal(plain.headers["cache-control"], "public");
    assert.deepEqual(plain.headers["set-cookie"], ["a=1", "b=2"]);
  });

  test("an answer gets nosniff unless it has its own value, or its route disables it", async () => {
    const sniffing = async (path, headers = {}) => {
      users.answer(path, { headers, json: {} });
      return (await edge.send({ path })).headers["x-content-type-options"];
    };
    assert.equal(await sniffing("/plain?nosniff"), "nosniff");
    assert.equal(await sniffing("/rules?nosniff"), "nosniff");
    assert.equal(await sniffing("/plain?own", { "x-content-type-options": "own" }), "own");
    assert.equal(await sniffing("/unguarded"), undefined);
    assert.equal(await sniffing("/unguarded?own", { "X-Content-Type-Options": "nosniff" }), "nosniff");
  });

  test("a stalled answer is cut off, and the log says so", async () => {
    let closed = false;
    users.answer("/plain?still", (_request, response) => {
      response.on("close", () => (closed = true));
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write("data: 1\n\n");
    });
    const begun = Date.now();
    await assert.rejects(edge.send({ path: "/plain?still" }));
    assert.ok(Date.now() - begun >= IDLE_MS, "not before its time");
    await until("the service is left alone", () => closed);
    await until("the log says so", () =>
      edge.lines.some((line) => line.level === "warn" && /stood still/.test(line.message ?? "")),
    );
  });

  test("a slow answer is not cut off", async () => {
    users.answer("/plain?slow", async (_request, response) => {
      response.writeHead(200, { "content-type": "text/plain" });
      for (let count = 0; count < 6; count += 1) {
        response.write(`${count}`);
        await new Promise((resolve) => setTimeout(resolve, IDLE_MS / 2));
      }
      response.end();
    });
    assert.equal((await edge.send({ path: "/plain?slow" })).body, "012345");
  });

  test("a timed answer keeps its length, its bytes and its encoding", async () => {
    const text = "hello ".repeat(50_000);
    users.answer("/plain?long", { headers: { "content-length": String(text.length) }, body: text });
    const long = await edge.send({ path: "/plain?long" });
    assert.equal(long.headers["content-length"], String(text.length));
    assert.equal(long.body, text);
    const packed = gzipSync(text);
    const headers = { "content-encoding": "gzip", "content-length": String(packed.length) };
    users.answer("/plain?gzip", { headers, body: packed });
    const encoded = await edge.send({ path: "/plain?gzip", headers: { "accept-encoding": "gzip" } });
    assert.equal(encoded.headers["content-encoding"], "gzip");
    assert.equal(gunzipSync(encoded.bytes).toString(), text);
    assert.ok(encoded.bytes.equals(packed), "byte by byte");
    assert.equal(encoded.headers["content-length"], String(packed.length));
    const part = packed.subarray(10, 60);
    const range = { "content-range": `bytes 10-59/${packed.length}`, "content-length": "50" };
    users.answer("/plain?part", { status: 206, headers: { ...headers, ...range }, body: part });
    const ranged = await edge.send({
      path: "/plain?part",
      headers: { "accept-encoding": "gzip", range: "bytes=10-59" },
    });
    assert.equal(ranged.status, 206);
    assert.ok(ranged.bytes.equals(part), "a part of what is encoded cannot be decoded by itself");
    users.answer("/plain?none", { status: 204 });
    assert.equal((await edge.send({ path: "/plain?none" })).status, 204);
  });

  test("an invalid or wrong length breaks no timed answer", async () => {
    const raw = (head, body) => (_request, response) => {
      response.socket.end(`HTTP/1.1 200 OK\r\n${head}\r\nconnection: close\r\n\r\n${body}`);
    };
    users.answer("/plain?twice", raw("content-length: 5\r\ncontent-length: 5", "hello"));
    users.answer("/plain?belied", raw("content-length: 3\r\ntransfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"));
    for (const path of ["/plain?twice", "/plain?belied"]) {
      const answer = await edge.send({ path });
      assert.equal(answer.status, 200, path);
      assert.equal(answer.body, "hello", path);
      assert.ok(answer.headers["x-request-id"], path);
    }
  });

  test("a service under maintenance gets no request, and the client gets Retry-After", async () => {
    auth.forget();
    for (const method of ["GET", "POST"]) {
      const answer = await edge.send({ method, path: "/away" });
      assert.equal(answer.status, 503);
      assert.equal(answer.json().code, "maintenance");
      assert.equal(answer.headers["retry-after"], "600");
    }
    assert.equal((await edge.send({ method: "PUT", path: "/away" })).status, 405);
    assert.equal(auth.requests.length, 0);
    const { upstreams } = (await edge.get("/status")).json();
    assert.deepEqual(
      upstreams.map(({ name, maintenance }) => [name, maintenance]),
      [
        ["auth", true],
        ["users", false],
      ],
    );
  });

  const unbound = { skip: onlyOnPlatform("portcullis serve refuses this policy") };
  test("a missing rate limit binding makes the gateway not ready", unbound, async () => {
    const answer = await edge.get("/ready");
    assert.equal(answer.status, 503);
    assert.deepEqual(answer.json().missing, ["rate limit LIMIT_RARE is not bound; see wrangler.toml"]);
  });
});
