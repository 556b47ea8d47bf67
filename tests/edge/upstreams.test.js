// Failing and slow services, slow clients, overload, several targets and WebSockets at the running gateway,
// over sockets.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { PassThrough, Readable } from "node:stream";
import { before, beforeEach, describe, test } from "node:test";

import { WebSocket, WebSocketServer } from "ws";

import { makeAssertionKey, readAssertion } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Milliseconds; policies/upstreams.toml.
const TIMEOUT_MS = 500;

let auth, users, one, two, big, edge, issuer;
const keys = { pair: makeAssertionKey(), big: makeAssertionKey() };

before(async () => {
  [auth, users, one, two, big] = await Promise.all(Array.from({ length: 5 }, () => startUpstream(scope)));
  issuer = (await createIssuer()).publishOn(auth);
  edge = await startEdge(scope, {
    auth,
    users,
    policy: "upstreams",
    vars: {
      UPSTREAM_PAIR_URL: `${one.url},${two.url}`,
      UPSTREAM_BIG_URL: big.url,
      ASSERTION_KEYS_PAIR: keys.pair,
      ASSERTION_KEYS_BIG: keys.big,
    },
  });
});

const open = (options = {}) => edge.send({ path: "/open", ...options });
// A service that reads a body to its end.
async function readAll(request, response) {
  try {
    for await (const part of request) void part;
    response.end("{}");
  } catch {
    response.destroy();
  }
}
const codeOf = (answer) => (answer.status === 200 ? "ok" : answer.json().code);

async function breakersOf(name) {
  const { upstreams } = (await edge.get("/status")).json();
  return upstreams.find((upstream) => upstream.name === name).breakers;
}

describe("a service that fails", () => {
  beforeEach(async () => {
    users.answer("GET /open", { json: {} });
    await until("the service is asked", async () => (await open()).status === 200);
    users.forget();
  });

  test("gets no request for a while after five failures, and requests again after one good probe", async (t) => {
    users.answer("GET /open", { status: 503 });
    for (let count = 0; count < 5; count += 1) assert.equal((await open()).status, 503);
    assert.deepEqual(await breakersOf("users"), ["open"]);
    const took = [];
    for (let count = 0; count < 50; count += 1) {
      const answer = await open();
      assert.equal(codeOf(answer), "upstream_resting");
      assert.match(answer.headers["retry-after"], /^[1-9]\d*$/);
      took.push((await edge.lineOf(answer)).duration_ms);
    }
    t.diagnostic(`refused in ${Math.max(...took)} ms at most, by the gateway's clock`);
    assert.equal(users.requests.length, 5, "it was left alone");
    assert.equal((await edge.get("/health")).status, 200);
    // Still failing: the gateway sends one probe per second.
    await until("a probe reaches it", async () => {
      await open();
      return users.requests.length > 5;
    });
    assert.deepEqual(await breakersOf("users"), ["open"]);
    users.answer("GET /open", { json: {} });
    await until("it is asked again", async () => (await open()).status === 200);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
  });

  test("a request that timed out is ended at the service too", async () => {
    let cut = 0;
    users.answer("GET /open", (_request, response) => response.once("close", () => (cut += 1)));
    assert.equal(codeOf(await open()), "upstream_timeout");
    const { length } = users.requests;
    assert.ok(length > 0);
    await until("no connection is held for it", () => cut === length);
    users.answer("GET /open", { json: {} });
  });

  test("one that stops reading and answering is 504, then gets no request, then gets requests again", async () => {
    users.answer("GET /open", () => {});
    const answers = await Promise.all(Array.from({ length: 5 }, () => open()));
    assert.deepEqual(answers.map(codeOf), Array(5).fill("upstream_timeout"));
    assert.equal(codeOf(await open()), "upstream_resting");
    users.answer("GET /open", { json: {} });
    await until("it is asked again", async () => (await open()).status === 200);
  });
});

describe("clients", () => {
  beforeEach(async () => {
    users.answer("POST /open", { json: {} });
    users.answer("GET /open", { json: {} });
    await until("the service is asked", async () => (await open()).status === 200);
    users.forget();
  });

  // A request whose body never ends. In chunks, the service gets its beginning.
  function dawdle({ close = false, address = "127.0.0.1", isChunked = false } = {}) {
    const { hostname, port } = new URL(edge.url);
    const socket = connect({ host: hostname, port: Number(port) });
    let text = "";
    socket.setEncoding("latin1").on("data", (part) => (text += part));
    socket.on("error", () => {});
    const framing = isChunked ? "Transfer-Encoding: chunked" : "Content-Length: 100";
    const lines = [`Host: ${hostname}:${port}`, `CF-Connecting-IP: ${address}`, framing];
    const body = isChunked ? "5\r\nhello\r\n" : "hello";
    socket.write(`POST /open HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n${body}`);
    if (close) setTimeout(() => socket.destroy(), 50);
    return new Promise((resolve) => {
      const timer = setInterval(() => text.includes("\r\n\r\n") && socket.destroy(), 10);
      socket.on("close", () => {
        clearInterval(timer);
        resolve(text);
      });
    });
  }

  test("that do not send their body are 408, and the service is not blamed", async () => {
    users.answer("POST /open", readAll);
    const answers = await Promise.all(Array.from({ length: 10 }, () => dawdle()));
    for (const text of answers) assert.match(text, /^HTTP\/1\.1 408 /);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
    assert.equal((await open({ method: "POST", json: {} })).status, 200);
  });

  test("that disconnect within their body do not count against the service", async () => {
    users.answer("POST /open", readAll);
    await Promise.all(Array.from({ length: 10 }, (_, count) => dawdle({ close: true, isChunked: count % 2 === 0 })));
    // The disconnect is noticed a moment later.
    await until("their places are free", async () => (await open({ method: "POST", json: {} })).status === 200);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
  });

  test("get the service's fault when it breaks off within their body", async () => {
    users.answer("POST /open", (request) => request.socket.destroy());
    assert.equal(codeOf(await open({ method: "POST", body: "x".repeat(500) })), "upstream_unreachable");
  });

  // A service that times out on a slow client may answer with an error, which must not count against it.
  test("that are slow until the service gives up do not open its circuit", async () => {
    for (const complain of [
      (_request, response) => {
        response.writeHead(503);
        response.end();
      },
      (request) => setTimeout(() => request.socket.destroy(), 1200),
    ]) {
      users.answer("POST /open", complain);
      const answers = await Promise.all(Array.from({ length: 10 }, () => dawdle({ isChunked: true })));
      for (const text of answers) assert.match(text, /^HTTP\/1\.1 50[23] /);
    }
    assert.deepEqual(await breakersOf("users"), ["closed"]);
    assert.equal((await open()).status, 200);
  });

  test("whose body is cut never send a complete one", async () => {
    const seen = [];
    users.answer("POST /open", async (request, response) => {
      const entry = { size: 0, whole: false };
      seen.push(entry);
      try {
        for await (const part of request) entry.size += part.length;
        entry.whole = true;
        response.end("{}");
      } catch {
        response.destroy();
      }
    });
    const { hostname, port } = new URL(edge.url);
    for (const rest of ["50\r\nhel", "zz\r\nhel", "", "5\r\nhel"]) {
      const before = seen.length;
      const socket = connect({ host: hostname, port: Number(port) });
      socket.on("error", () => {}).resume();
      const closed = new Promise((resolve) => socket.on("close", resolve));
      socket.write("POST /open HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
      await until("the first part has arrived", () => seen[before]?.size === 5);
      socket.end(rest);
      await closed;
    }
    assert.equal((await open()).status, 200);
    for (const { size, whole } of seen) assert.equal(whole, false, `${size} bytes were taken for a whole body`);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
  });

  test("that take longer than the service's timeout are served", async () => {
    users.answer("POST /open", async (request, response) => {
      let size = 0;
      for await (const part of request) size += part.length;
      response.end(JSON.stringify({ size }));
    });
    const body = new PassThrough();
    const answered = open({ method: "POST", body });
    const began = Date.now();
    const timer = setInterval(() => {
      body.write("x");
      if (Date.now() - began > 2 * TIMEOUT_MS) {
        clearInterval(timer);
        body.end();
      }
    }, 50);
    const answer = await answered;
    assert.equal(answer.status, 200, answer.body);
    assert.ok(answer.json().size > 5);
  });

  test("that send more than the route allows are 413, with a length or without", async () => {
    const known = await open({ method: "POST", body: "x".repeat(1001) });
    assert.equal(codeOf(known), "body_too_large");
    assert.equal(users.requests.length, 0);
    users.answer("POST /open", readAll);
    const parts = Array.from({ length: 30 }, () => "x".repeat(100));
    assert.equal(codeOf(await open({ method: "POST", body: Readable.from(parts) })), "body_too_large");
    const fits = Array.from({ length: 10 }, () => "x".repeat(100));
    assert.equal((await open({ method: "POST", body: Readable.from(fits) })).status, 200);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
  });

  test("that open a thousand connections and send a byte at a time do not delay others", async (t) => {
    const { hostname, port } = new URL(edge.url);
    const sockets = Array.from({ length: 1000 }, () => {
      const socket = connect({ host: hostname, port: Number(port) });
      socket.on("error", () => {});
      return socket;
    });
    t.after(() => {
      for (const socket of sockets) socket.destroy();
    });
    await until("they are connected", () => sockets.every((socket) => socket.readyState === "open"));
    const request = "POST /open HTTP/1.1\r\nHost: edge\r\nContent-Length: 100\r\n\r\nx";
    for (let byte = 0; byte < 20; byte += 1) {
      for (const socket of sockets) socket.write(request[byte]);
      assert.equal((await open()).status, 200);
    }
    for (const socket of sockets.slice(0, 500)) socket.destroy();
    for (let count = 0; count < 50; count += 1) assert.equal((await open()).status, 200);
    assert.deepEqual(await breakersOf("users"), ["closed"]);
  });

  test("that disconnect hold no slots", async () => {
    users.answer("GET /open", async (_request, response) => {
      await new Promise((resolve) => setTimeout(resolve, 100));
      response.end("{}");
    });
    const { hostname, port } = new URL(edge.url);
    for (let round = 0; round < 3; round += 1) {
      const gone = Array.from({ length: 40 }, () => {
        const socket = connect({ host: hostname, port: Number(port) });
        socket.on("error", () => {});
        socket.write("GET /open HTTP/1.1\r\nHost: edge\r\n\r\n");
        setTimeout(() => socket.resetAndDestroy(), 50);
        return new Promise((resolve) => socket.on("close", resolve));
      });
      await Promise.all(gone);
    }
    const began = Date.now();
    await until("there is a place", async () => (await open()).status === 200);
    assert.ok(Date.now() - began < 2 * TIMEOUT_MS + 1_000, "well before their own times are over");
  });

  test("that are slow in large numbers leave slots for requests without a body", async () => {
    const twenty = () => Promise.all(Array.from({ length: 20 }, () => open()));
    await until("all places are free", async () => (await twenty()).every(({ status }) => status === 200));
    users.answer("POST /open", readAll);
    const dawdling = Promise.all(Array.from({ length: 40 }, () => dawdle()));
    for (let count = 0; count < 20; count += 1) assert.equal((await open()).status, 200);
    const statuses = (await dawdling).map((text) => text.slice(9, 12));
    assert.deepEqual([...new Set(statuses)].sort(), ["408", "503"]);
  });

  const stated = { skip: onlyOnPlatform("clients that state their addresses") };
  test("that are slow and of one network leave slots for the bodies of others", stated, async () => {
    const twenty = () => Promise.all(Array.from({ length: 20 }, () => open()));
    await until("all places are free", async () => (await twenty()).every(({ status }) => status === 200));
    users.answer("POST /open", readAll);
    const dawdling = Promise.all(Array.from({ length: 40 }, (_, at) => dawdle({ address: `2001:db8::${at}` })));
    for (let count = 0; count < 10; count += 1) assert.equal((await open({ method: "POST", json: {} })).status, 200);
    const statuses = (await dawdling).map((text) => text.slice(9, 12));
    assert.equal(statuses.filter((status) => status === "408").length, 1);
  });

  test("that are too many at once get 503 at once, and their timeouts affect no others", async () => {
    const twenty = () => Promise.all(Array.from({ length: 20 }, () => open()));
    await until("all places are free", async () => (await twenty()).every(({ status }) => status === 200));
    users.forget();
    let release;
    const held = new Promise((resolve) => (release = resolve));
    users.answer("GET /open", async (_request, response) => {
      await held;
      response.end("{}");
    });
    const waiting = Array.from({ length: 20 }, () => open({ headers: { "x-request-timeout-ms": "1" } }));
    await until("twenty wait", () => users.requests.filter(({ method }) => method === "GET").length >= 20);
    const refused = await open();
    assert.deepEqual([refused.status, codeOf(refused), refused.headers["retry-after"]], [503, "upstream_busy", "1"]);
    release();
    for (const answer of await Promise.all(waiting)) assert.equal(answer.status, 200);
    assert.equal(users.requests.at(-1).headers["x-request-timeout-ms"], String(TIMEOUT_MS));
  });
});

describe("an upstream of two targets", () => {
  test("serves every request while one of them is down, and both when it is back", async () => {
    const count = () => one.requests.length + two.requests.length;
    for (let round = 0; round < 40; round += 1) assert.equal((await edge.get("/pair")).status, 200);
    assert.equal(count(), 40);
    assert.ok(one.requests.length > 5 && two.requests.length > 5);
    await one.stop();
    for (let round = 0; round < 60; round += 1) assert.equal((await edge.get("/pair")).status, 200);
    assert.ok((await breakersOf("pair")).includes("open"));
    const { claims } = await readAssertion(two.requests.at(-1).assertion, keys.pair, "pair");
    assert.equal(claims.htu, "/pair");
  });
});

describe("a WebSocket", () => {
  let server;
  const seen = [];

  before(() => {
    server = new WebSocketServer({ noServer: true });
    big.onUpgrade((request, socket, head) => {
      seen.push(request.headers);
      server.handleUpgrade(request, socket, head, (webSocket) => {
        webSocket.on("message", (data, isBinary) => webSocket.send(data, { binary: isBinary }));
      });
    });
    scope.after(() => server.close());
  });

  const dial = (path, headers = {}) =>
    new Promise((resolve, reject) => {
      const webSocket = new WebSocket(`${edge.url.replace("http", "ws")}${path}`, { headers });
      webSocket.on("open", () => resolve(webSocket));
      webSocket.on("unexpected-response", (_request, response) => reject(new Error(String(response.statusCode))));
      webSocket.on("error", reject);
    });

  test("passes both ways, with the same checks before it", async () => {
    const token = await issuer.accessToken();
    await assert.rejects(dial("/chat"), /401/);
    await assert.rejects(dial("/chat", { authorization: "Bearer a.b.c" }), /401/);
    const webSocket = await dial("/chat", { authorization: `Bearer ${token}`, "x-user-id": "forged" });
    const next = () =>
      new Promise((resolve) => webSocket.once("message", (data, isBinary) => resolve({ data, isBinary })));
    for (const message of ["hello", "x".repeat(100_000), Buffer.from([0, 1, 2, 255])]) {
      const answered = next();
      webSocket.send(message);
      const { data, isBinary } = await answered;
      assert.equal(isBinary, Buffer.isBuffer(message));
      assert.ok(Buffer.from(message).equals(data));
    }
    const closed = new Promise((resolve) => webSocket.once("close", resolve));
    webSocket.close(1000, "done");
    await closed;
    assert.notEqual(seen[0]["x-user-id"], "forged");
    const { claims } = await readAssertion(seen[0]["x-gateway-assertion"], keys.big, "big");
    assert.deepEqual([claims.htm, claims.htu], ["GET", "/chat"]);
  });

  test("is refused unless the route allows it", async () => {
    const token = await issuer.accessToken();
    big.answer("GET /no-chat", { json: { plain: true } });
    await assert.rejects(dial("/no-chat", { authorization: `Bearer ${token}` }), /200/);
    assert.equal(big.requests.at(-1).headers.upgrade, undefined);
  });
});
