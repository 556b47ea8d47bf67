// Bodies are streamed unchanged in both directions.

import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { before, describe, test } from "node:test";
import { PassThrough, Readable } from "node:stream";
import { gzipSync } from "node:zlib";

import { makeAssertionKey } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const MIB = 1024 * 1024;

const scope = fileScope();

describe("bodies", () => {
  let auth, users, edge, path, bearer;

  before(async () => {
    auth = await startUpstream(scope);
    users = await startUpstream(scope);
    const issuer = (await createIssuer()).publishOn(auth);
    edge = await startEdge(scope, {
      auth,
      policy: "upstreams",
      vars: { UPSTREAM_BIG_URL: users.url, ASSERTION_KEYS_BIG: makeAssertionKey() },
    });
    path = "/big";
    bearer = { authorization: `Bearer ${await issuer.accessToken()}` };
  });

  // Resident memory of the runtime in bytes.
  const heldBytes = () =>
    Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${edge.pid}/status`, "utf8"))[1]) * 1024;

  test("128 MiB up and down arrive unchanged, and are never entirely in memory", async (t) => {
    const block = randomBytes(MIB);
    const blocks = 128;
    // Excludes what the runtime needs at its start.
    assert.equal((await edge.send({ method: "PUT", path, headers: bearer, body: block })).status, 200);
    const before = heldBytes();
    let peak = before;
    const watching = setInterval(() => (peak = Math.max(peak, heldBytes())), 20);
    t.after(() => clearInterval(watching));
    const expected = createHash("sha256");
    for (let count = 0; count < blocks; count += 1) expected.update(block);
    const sum = expected.digest("hex");
    users.answer(`PUT ${path}`, async (incoming, outgoing) => {
      const hash = createHash("sha256");
      for await (const part of incoming) hash.update(part);
      outgoing.writeHead(200, { "x-sum": hash.digest("hex") });
      Readable.from(repeat(block, blocks)).pipe(outgoing);
    });
    const answer = await edge.send({
      method: "PUT",
      path,
      headers: { ...bearer, "content-length": String(blocks * MIB) },
      body: Readable.from(repeat(block, blocks)),
    });
    assert.equal(answer.status, 200, answer.body);
    assert.equal(answer.headers["x-sum"], sum);
    assert.equal(createHash("sha256").update(answer.bytes).digest("hex"), sum);
    const grown = Math.round((peak - before) / MIB);
    t.diagnostic(`the runtime grew by ${grown} MiB at most, from ${Math.round(before / MIB)} MiB`);
    assert.ok(grown < blocks / 4, `it grew by ${grown} MiB`);
  });

  function* repeat(block, times) {
    for (let count = 0; count < times; count += 1) yield block;
  }

  test("the first part of an answer is there before the last is written", async () => {
    let finish;
    users.answer(`GET ${path}?events`, (_incoming, outgoing) => {
      outgoing.writeHead(200, { "content-type": "text/event-stream" });
      outgoing.write("data: first\n\n");
      finish = () => outgoing.end("data: last\n\n");
    });
    let text = "";
    let ended = false;
    const { hostname, port } = new URL(edge.url);
    const sent = request({ hostname, port, path: `${path}?events`, headers: bearer, agent: false });
    sent.on("response", (response) => {
      response.setEncoding("utf8").on("data", (part) => (text += part));
      response.on("end", () => (ended = true));
    });
    sent.end();
    await until("the first event has come", () => text.includes("first"));
    assert.equal(ended, false);
    finish();
    await until("the answer has ended", () => ended);
    assert.equal(text, "data: first\n\ndata: last\n\n");
  });

  test("the first part of a request is there before the last is sent", async () => {
    let got = "";
    users.answer(`PUT ${path}?slow`, (incoming, outgoing) => {
      incoming.setEncoding("utf8").on("data", (part) => (got += part));
      incoming.on("end", () => outgoing.end(got));
    });
    const body = new PassThrough();
    const answered = edge.send({ method: "PUT", path: `${path}?slow`, headers: bearer, body });
    body.write("first ");
    await until("the first part has come", () => got === "first ");
    body.end("last");
    assert.equal((await answered).body, "first last");
  });

  test("a compressed answer stays compressed, byte for byte", async () => {
    const packed = gzipSync("hello ".repeat(1000));
    users.answer(`GET ${path}?gzip`, { headers: { "content-encoding": "gzip" }, body: packed });
    const answer = await edge.send({ path: `${path}?gzip`, headers: { ...bearer, "accept-encoding": "gzip" } });
    assert.equal(answer.headers["content-encoding"], "gzip");
    assert.ok(answer.bytes.equals(packed));
  });

  test("HEAD has the headers of GET and no body; ranges and conditions pass", async () => {
    users.answer(`HEAD ${path}`, { headers: { etag: '"v1"', "content-length": "10" } });
    const head = await edge.send({ method: "HEAD", path, headers: bearer });
    assert.equal(head.status, 200);
    assert.equal(head.headers.etag, '"v1"');
    assert.equal(head.body, "");
    users.answer(`GET ${path}?range`, { status: 206, headers: { "content-range": "bytes 0-1/10" }, body: "ab" });
    const part = await edge.send({ path: `${path}?range`, headers: { ...bearer, range: "bytes=0-1" } });
    assert.equal(part.status, 206);
    assert.equal(part.body, "ab");
    assert.equal(users.requests.at(-1).headers.range, "bytes=0-1");
    users.answer(`GET ${path}?etag`, { status: 304, headers: { etag: '"v1"' } });
    const same = await edge.send({ path: `${path}?etag`, headers: { ...bearer, "if-none-match": '"v1"' } });
    assert.equal(same.status, 304);
    assert.equal(users.requests.at(-1).headers["if-none-match"], '"v1"');
  });

  test("a body of known length keeps it, one of unknown length is chunked", async () => {
    const known = await edge.send({ method: "PATCH", path, headers: bearer, json: { first_name: "Zoë" } });
    assert.equal(known.json().body, '{"first_name":"Zoë"}');
    assert.equal(known.json().headers["content-length"], String(Buffer.byteLength('{"first_name":"Zoë"}')));
    assert.equal(known.json().headers["transfer-encoding"], undefined);
    const body = Readable.from(["a", "b"]);
    const unknown = await edge.send({ method: "PATCH", path, headers: bearer, body });
    assert.equal(unknown.json().body, "ab");
    assert.equal(unknown.json().headers["transfer-encoding"], "chunked");
  });

  test("a request without a body reaches the service without a body", async () => {
    for (const method of ["PUT", "PATCH", "DELETE"]) {
      users.answer(`${method} ${path}`, { json: {} });
      assert.equal((await edge.send({ method, path, headers: bearer })).status, 200, method);
      assert.equal(users.requests.at(-1).body, "");
    }
  });
});
