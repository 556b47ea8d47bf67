// A fake service behind the gateway. It answers as a test says and records all requests.
//
//   const users = await startUpstream(scope);
//   users.answer("GET /api/v1/users/1", { status: 200, json: { data: {} } });
//   users.answer("/slow", (request, response) => { … node:http … });
//   users.answer(handler)          for all requests without an answer of their own
//   users.onUpgrade((request, socket, head) => …)      for WebSockets
//   users.requests                 [{ method, path, headers, rawHeaders, body, assertion }]
//   await users.stop(); await users.start();    the same port again
//
// Without an answer, a request is echoed with 200: { method, path, headers, body }.

import { createServer } from "node:http";

// Recorded bytes of a request body.
const BODY_MAX = 16 * 1024 * 1024;

// Bytes of a request's headers: the assertion of a 16 KB token exceeds Node's default.
const HEADERS_MAX = 64 * 1024;

export async function startUpstream(scope, fallback) {
  const answers = new Map();
  const requests = [];
  const sockets = new Set();
  let server;
  let port = 0;
  let everything = fallback;
  let upgrade;

  const handle = async (request, response) => {
    const parts = [];
    let size = 0;
    const seen = {
      method: request.method,
      path: request.url,
      headers: request.headers,
      rawHeaders: request.rawHeaders,
      assertion: request.headers["x-gateway-assertion"],
      body: "",
    };
    requests.push(seen);
    const answer = answers.get(`${request.method} ${request.url}`) ?? answers.get(request.url) ?? everything;
    if (typeof answer === "function") return answer(request, response, seen);
    try {
      for await (const part of request) {
        size += part.length;
        if (size <= BODY_MAX) parts.push(part);
      }
    } catch {
      return response.destroy();
    }
    seen.body = Buffer.concat(parts).toString("utf8");
    if (answer !== undefined) return reply(response, answer);
    const { method, path, headers, body } = seen;
    reply(response, { json: { method, path, headers, body } });
  };

  const upstream = {
    requests,
    get url() {
      return `http://127.0.0.1:${port}`;
    },
    get port() {
      return port;
    },
    answer(where, what) {
      if (what === undefined) everything = where;
      else answers.set(where, what);
      return upstream;
    },
    onUpgrade(handler) {
      upgrade = handler;
      return upstream;
    },
    forget() {
      requests.length = 0;
    },
    start() {
      server = createServer({ keepAliveTimeout: 1000, maxHeaderSize: HEADERS_MAX }, handle);
      server.on("upgrade", (request, socket, head) =>
        upgrade === undefined ? socket.destroy() : upgrade(request, socket, head),
      );
      server.on("connection", (socket) => {
        sockets.add(socket);
        socket.on("close", () => sockets.delete(socket));
      });
      return new Promise((resolve, reject) => {
        server.once("error", reject);
        server.listen(port, "127.0.0.1", () => {
          port = server.address().port;
          resolve(upstream);
        });
      });
    },
    // Stops listening and cuts every connection.
    async stop() {
      if (server === undefined) return;
      const closing = server;
      server = undefined;
      const closed = new Promise((resolve) => closing.close(resolve));
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
  scope.after(() => upstream.stop());
  return upstream.start();
}

/**
 * @param {import("node:http").ServerResponse} response
 * @param {{ status?: number, headers?: Record<string, string>, json?: unknown, body?: string }} [answer]
 */
export function reply(response, { status = 200, headers = {}, json, body } = {}) {
  const content = json === undefined ? (body ?? "") : JSON.stringify(json);
  const type = json === undefined ? {} : { "content-type": "application/json" };
  response.writeHead(status, { ...type, ...headers });
  response.end(content);
}
