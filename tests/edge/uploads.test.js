// Uploads that end early: whose fault it is, what the client gets, and what the circuit breaker counts. The
// services are plain sockets, which break off at exact positions.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { request as httpRequest } from "node:http";
import { connect, createServer } from "node:net";
import { before, beforeEach, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const wait = (millis) => new Promise((resolve) => setTimeout(resolve, millis));

const EARLY_413 = "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 7\r\n\r\ntoo big";

// What a service does after the request's head; `onBytes` is called for the body.
const DEATHS = {
  "at once, with FIN": (socket) => socket.end(),
  "at once, with a reset": (socket) => socket.resetAndDestroy(),
  "in the middle, with FIN": (socket, onBytes) => onBytes((count) => count > 200 && socket.end()),
  "in the middle, with a reset": (socket, onBytes) => onBytes((count) => count > 200 && socket.resetAndDestroy()),
  "after a while, with a reset": (socket) => setTimeout(() => socket.resetAndDestroy(), 200),
};

const COMPLETE_413 = /^HTTP\/1\.1 413 [\s\S]*\r\n\r\ntoo big$/;
const RESET_413 = /^HTTP\/1\.1 413 [\s\S]*\r\n\r\n(too big)?$/;

const UPLOADS = {
  "a short body": { total: 500, pace: 50 },
  "a body that takes a while": { total: 400, pace: 20, pause: 15 },
  "a body that takes a while, in chunks": { total: 400, pace: 20, pause: 15, isChunked: true },
  "a long body": { total: 3_000_000, pace: 65_536 },
  "a long body in chunks": { total: 3_000_000, pace: 65_536, isChunked: true },
};

// A service on a plain socket: `act` is called with each connection when its head is complete.
async function startRaw() {
  const raw = { act: () => {}, sockets: new Set() };
  const server = createServer((socket) => {
    raw.sockets.add(socket);
    socket.on("error", () => {}).on("close", () => raw.sockets.delete(socket));
    let head = "";
    let count = 0;
    let onBytes = () => {};
    socket.on("data", (bytes) => {
      if (head.endsWith("\r\n\r\n")) {
        count += bytes.length;
        return onBytes(count);
      }
      const text = head + bytes.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      head = end < 0 ? text : text.slice(0, end + 4);
      if (end < 0) return;
      raw.act(socket, (handler) => (onBytes = handler), head);
      count = text.length - head.length;
      if (count > 0) onBytes(count);
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  scope.after(() => {
    for (const socket of raw.sockets) socket.destroy();
    server.close();
  });
  raw.url = `http://127.0.0.1:${server.address().port}`;
  return raw;
}

describe("an upload", () => {
  let edge, raw;

  before(async () => {
    raw = await startRaw();
    const auth = await startUpstream(scope);
    edge = await startEdge(scope, { auth, policy: "upstreams", vars: { UPSTREAM_USERS_URL: raw.url } });
  });

  const fine = (socket) => socket.end("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
  async function breaker() {
    const { upstreams } = (await edge.get("/status")).json();
    return upstreams.find(({ name }) => name === "users").breakers[0];
  }
  async function close() {
    raw.act = fine;
    await until("the service is asked", async () => (await edge.get("/open")).status === 200);
  }
  beforeEach(close);

  // Sends an upload byte for byte and resolves with everything received. With `leave`, the client leaves when
  // half is sent and `hasArrived` is true: "reset", "fin", or "halt", which stays connected and sends nothing
  // more.
  async function upload({ total, pace, pause, isChunked }, { leave, hasArrived = () => true } = {}) {
    const { hostname, port } = new URL(edge.url);
    const socket = connect({ host: hostname, port: Number(port) });
    let text = "";
    let isClosed = false;
    socket.on("error", () => {}).on("close", () => (isClosed = true));
    socket.setEncoding("latin1").on("data", (part) => (text += part));
    const framing = isChunked ? "Transfer-Encoding: chunked" : `Content-Length: ${total}`;
    socket.write(`POST /upload HTTP/1.1\r\nHost: edge\r\n${framing}\r\n\r\n`);
    for (let sent = 0; sent < total && !isClosed && text === ""; sent += pace) {
      const part = "x".repeat(Math.min(pace, total - sent));
      const isTaken = socket.write(isChunked ? `${part.length.toString(16)}\r\n${part}\r\n` : part);
      if (pause !== undefined) await wait(pause);
      else if (!isTaken)
        await Promise.race(["drain", "close"].map((name) => new Promise((resolve) => socket.once(name, resolve))));
      if (leave === undefined || sent < total / 2) continue;
      await until("the service has the head", hasArrived);
      if (leave === "reset") socket.resetAndDestroy();
      if (leave === "fin") socket.end();
      break;
    }
    if (isChunked && leave === undefined && !isClosed) socket.write("0\r\n\r\n");
    const isAnswer = () => /\r\n\r\n[\s\S]|\r\nContent-Length: 0\r\n[\s\S]*\r\n\r\n/i.test(text);
    await until("an answer or the end", () => isClosed || isAnswer());
    socket.destroy();
    return text;
  }

  for (const [death, act] of Object.entries(DEATHS)) {
    test(`to a service that dies ${death} is 502, and counts as a failure`, async () => {
      raw.act = act;
      // Five in a row open the circuit, so each must count.
      assert.equal(Object.keys(UPLOADS).length, 5);
      for (const [name, what] of Object.entries(UPLOADS)) {
        assert.equal(await breaker(), "closed", name);
        const text = await upload(what);
        assert.match(text, /^HTTP\/1\.1 502 [\s\S]*"upstream_unreachable"/, `${name}: ${text}`);
      }
      assert.equal(await breaker(), "open");
    });
  }

  test("to a service that stops reading is 504, and that of a client that stops sending 408", async () => {
    raw.act = (socket) => socket.pause();
    for (const name of ["a long body", "a long body in chunks"]) {
      assert.match(await upload(UPLOADS[name]), /^HTTP\/1\.1 504 [\s\S]*"upstream_timeout"/, name);
    }
    raw.act = () => {};
    for (const name of ["a short body", "a body that takes a while, in chunks"]) {
      assert.match(await upload(UPLOADS[name], { leave: "halt" }), /^HTTP\/1\.1 408 [\s\S]*"body_too_slow"/, name);
    }
  });

  test("that its client breaks off does not count against the service, whatever it then does", async () => {
    for (const act of [() => {}, (socket) => socket.on("end", () => socket.resetAndDestroy())]) {
      // A reset drops what the runtime has not read yet, the request's head included.
      let hasArrived = false;
      raw.act = (socket) => {
        hasArrived = true;
        act(socket);
      };
      for (const leave of ["fin", "reset"]) {
        for (const name of ["a body that takes a while", "a body that takes a while, in chunks", "a long body"]) {
          for (let count = 0; count < 2; count += 1) {
            edge.lines.length = 0;
            hasArrived = false;
            // A short body of known length is read before the service is asked.
            const isWhole = name === "a body that takes a while";
            const text = await upload(UPLOADS[name], { leave, hasArrived: () => isWhole || hasArrived });
            const line = await until(`the log line of ${name}, ${leave}`, () =>
              edge.lines.find(({ path }) => path === "/upload"),
            );
            assert.equal(line.code, "client_gone", `${name}, ${leave}: ${text}`);
            assert.equal(hasArrived, !isWhole, name);
          }
        }
      }
    }
    assert.equal(await breaker(), "closed");
  });

  test("whose client is slow until the service closes the connection does not open the circuit", async () => {
    raw.act = (socket) => setTimeout(() => socket.destroy(), 1200);
    const statuses = await Promise.all(
      Array.from({ length: 10 }, async () =>
        (await upload({ ...UPLOADS["a short body"], isChunked: true }, { leave: "halt" })).slice(9, 12),
      ),
    );
    assert.deepEqual(statuses, Array(10).fill("502"));
    assert.equal(await breaker(), "closed");
  });

  test("that the service refuses early is refused with the service's own answer", async () => {
    for (const [how, act] of Object.entries({
      "and closes": (socket) => {
        socket.pause();
        socket.end(EARLY_413);
        setTimeout(() => socket.destroy(), 50);
      },
      "and resets": (socket) => {
        socket.pause();
        socket.write(EARLY_413);
        setTimeout(() => socket.resetAndDestroy(), 50);
      },
      "and resets at once": (socket) => {
        socket.pause();
        socket.write(EARLY_413, () => socket.resetAndDestroy());
      },
      "and reads on": (socket) => socket.write(EARLY_413),
    })) {
      raw.act = act;
      for (const [name, what] of Object.entries(UPLOADS)) {
        const text = await upload(what);
        // With a reset, the kernel of the gateway's machine may discard what the runtime has not read of the
        // answer: its head may have been read, and its body not.
        const answer = how === "and resets at once" ? RESET_413 : COMPLETE_413;
        assert.match(text, answer, `${how}, ${name}: ${text}`);
      }
    }
    assert.equal(await breaker(), "closed");
  });

  // The service does not end its answer, and the client keeps the connection open.
  for (const [what, path, status, framing, bytes] of [
    ["goes over the limit", "/open", "", "Transfer-Encoding: chunked", 2_000],
    ["goes over the limit with a false length", "/open", "", "Content-Length: 5\r\nTransfer-Encoding: chunked", 2_000],
    ["is not sent in time", "/upload", "", "Transfer-Encoding: chunked", 500],
    ["goes over the limit after an early answer", "/open", "200 OK", "Transfer-Encoding: chunked", 2_000],
    ["is not sent in time after an early answer", "/upload", "200 OK", "Transfer-Encoding: chunked", 500],
    ["has a length and is not sent in time after an early answer", "/upload", "200 OK", "Content-Length: 99999", 500],
    ["is refused by an early answer", "/upload", "413 Content Too Large", "Transfer-Encoding: chunked", 500],
  ]) {
    test(`that ${what} ends at the service`, async () => {
      let got = "";
      let isClosed = false;
      raw.act = (socket) => {
        socket.on("data", (data) => (got += data.toString("latin1"))).on("close", () => (isClosed = true));
        if (status) socket.write(`HTTP/1.1 ${status}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n`);
      };
      const { hostname, port } = new URL(edge.url);
      const client = connect({ host: hostname, port: Number(port) });
      scope.after(() => client.destroy());
      let text = "";
      client.on("error", () => {}).on("data", (data) => (text += data.toString("latin1")));
      const part = (body) => (framing.endsWith("chunked") ? `${body.length.toString(16)}\r\n${body}\r\n` : body);
      client.write(`POST ${path} HTTP/1.1\r\nHost: edge\r\n${framing}\r\n\r\n${part("x")}`);
      const hasArrived = () => (status ? text.includes("HTTP/1.1") : got.includes("x"));
      await until("the part or the answer has arrived", hasArrived);
      client.write(part("x".repeat(bytes)));
      await until("the service's connection ends", () => isClosed);
      assert.ok(text.startsWith(`HTTP/1.1 ${status}`), text);
      if (status === "") assert.doesNotMatch(got, /0\r\n\r\n$/, "the service takes the body for complete");
    });
  }

  test("whose service does not answer in time is 504, whether it is read first or passed on", async () => {
    raw.act = () => {};
    for (const total of [400, 65_536, 65_537]) {
      const text = await upload({ total, pace: total });
      assert.match(text, /^HTTP\/1\.1 504 [\s\S]*"upstream_timeout"/, `${total}: ${text}`);
    }
  });

  test("that is short and slow does not use up the time of the service", async () => {
    raw.act = (socket, onBytes) => onBytes((count) => count === 400 && setTimeout(fine, 300, socket));
    // The policy gives the client 1,500 ms and the service 500.
    const text = await upload({ total: 400, pace: 20, pause: 40 });
    assert.match(text, /^HTTP\/1\.1 200 /);
  });

  test("without a length arrives unchanged, in whatever pieces it comes", async () => {
    const numbers = Array.from({ length: 20_000 }, (_, index) => index).join(" ");
    for (const [name, total, piece] of [
      ["one piece", 5_000, 5_000],
      ["a few pieces", 5_000, 1_700],
      ["many small pieces", 3_000, 7],
      ["more pieces than are read ahead", 90_000, 900],
      ["more bytes than are read ahead", 100_000, 30_000],
    ]) {
      const body = numbers.slice(0, total);
      const pieces = Array.from({ length: Math.ceil(total / piece) }, (_, index) =>
        body.slice(index * piece, (index + 1) * piece),
      );
      const answer = await fetch(`${edge.url}/echo`, {
        method: "POST",
        duplex: "half",
        body: new ReadableStream({
          async pull(controller) {
            const next = pieces.shift();
            if (next === undefined) return controller.close();
            controller.enqueue(new TextEncoder().encode(next));
            await wait(0);
          },
        }),
      });
      assert.equal(answer.status, 200, name);
      const seen = await answer.json();
      assert.equal(seen.headers["transfer-encoding"], "chunked", name);
      assert.equal(seen.body, body, name);
    }
  });

  // Clients that send everything before they read lose an answer whose connection is reset.
  test("that is refused early, by a service or the gateway, gets the answer in every client", async () => {
    raw.act = (socket) => {
      socket.pause();
      socket.write(EARLY_413, () => socket.resetAndDestroy());
    };
    const body = "x".repeat(5_000_000);
    const clients = {
      "node:http": (path) =>
        new Promise((resolve, reject) => {
          const sent = httpRequest(`${edge.url}${path}`, { method: "POST" }, (response) => {
            response.resume();
            response.on("end", () => resolve(response.statusCode)).on("error", reject);
          });
          sent.on("error", reject);
          sent.end(body);
        }),
      fetch: async (path) => {
        const answer = await fetch(`${edge.url}${path}`, { method: "POST", body });
        await answer.text();
        return answer.status;
      },
      "http.client": (path) =>
        new Promise((resolve, reject) => {
          const { hostname, port } = new URL(edge.url);
          const code = `import http.client as h; c = h.HTTPConnection("${hostname}", ${port}); c.request("POST", "${path}", body=b"x" * 5000000); print(c.getresponse().status)`;
          execFile("python3", ["-c", code], (error, out) => (error ? reject(error) : resolve(Number(out))));
        }),
    };
    for (const [name, ask] of Object.entries(clients)) {
      for (const path of ["/upload", "/open"]) {
        for (let count = 0; count < 5; count += 1) assert.equal(await ask(path), 413, `${name} ${path}`);
      }
    }
  });
});
