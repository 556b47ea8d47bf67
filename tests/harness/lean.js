// Starts the built worker in workerd without Miniflare, whose own Workers would add to the memory that is
// measured.
//
//   const edge = await startLean(scope, { auth, users, policy });
//   edge.url, edge.pid, edge.log(mode)      sets the revocation log to "pass" or "hang"
//   await edge.memory()                     bytes in use after a garbage collection: of the process (rss),
//                                           of V8's heap (heap) and of the wasm module's memory (wasm)

import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { join } from "node:path";

import { startWorkerd } from "../../bench/workerd.js";
import { modulesOf } from "../../cli/lib/worker.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { makeAssertionKey } from "./assertion.js";
import { buildFor } from "./edge.js";
import { send } from "./http.js";
import { temporaryFolder } from "./run.js";
import { until } from "./wait.js";

const require = createRequire(import.meta.url);

// In the mode "hang" the revocation log answers late, but within the gateway's timeout.
const ENTRY = `
import { wasmBytes } from "./memory.js";
import gateway, { Revocations as Log } from "./entry.js";
export { Metrics } from "./entry.js";
let mode = "pass";
export class Revocations extends Log {
  async fetch(request) {
    if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, 3000));
    return super.fetch(request);
  }
}
export default {
  async fetch(request, env, context) {
    const { pathname } = new URL(request.url);
    if (pathname === "/test/collect") {
      for (let round = 0; round < 3; round += 1) {
        globalThis.gc();
        await scheduler.wait(20);
      }
      return new Response(null, { status: 204 });
    }
    if (pathname === "/test/wasm") return new Response(String(wasmBytes()));
    if (pathname === "/test/nothing") return new Response(null, { status: 204 });
    if (pathname.startsWith("/test/log/")) {
      mode = pathname.slice("/test/log/".length);
      return new Response(null, { status: 204 });
    }
    return gateway.fetch(request, env, context);
  },
};
`;

// Measures the memory of the wasm modules. Imported before the gateway, which creates its instance when
// it is evaluated.
const MEMORY = `
const memories = [];
const { Instance } = WebAssembly;
WebAssembly.Instance = class extends Instance {
  constructor(...args) {
    super(...args);
    memories.push(this.exports.memory);
  }
};
export const wasmBytes = () => memories.reduce((sum, { buffer }) => sum + buffer.byteLength, 0);
`;

export async function startLean(scope, { auth, users, policy }) {
  const { unstable_readConfig: readConfig } = require("wrangler");
  process.env.WRANGLER_LOG = "none";
  const config = readConfig({ config: join(ROOT, "wrangler.toml") });
  const build = await buildFor(policy);
  const folder = temporaryFolder(scope, "lean");
  const entry = join(folder, "observed.js");
  writeFileSync(entry, ENTRY);
  const memory = join(folder, "memory.js");
  writeFileSync(memory, MEMORY);
  const [port, inspector] = [await probePort(0), await probePort(0)];
  const child = startWorkerd(
    folder,
    {
      modules: [{ name: "observed.js", path: entry }, { name: "memory.js", path: memory }, ...modulesOf(build)],
      date: config.compatibility_date,
      texts: {
        DEVELOPMENT: "true",
        LOG_SUCCESSES: "0",
        UPSTREAM_AUTH_URL: auth.url,
        UPSTREAM_USERS_URL: users.url,
        ASSERTION_KEYS_AUTH: makeAssertionKey(),
        ASSERTION_KEYS_USERS: makeAssertionKey(),
      },
      stores: ["KEYS"],
      objects: { REVOCATIONS: "Revocations", METRICS: "Metrics" },
      limits: config.ratelimits.map(({ name }) => name),
      v8Flags: ["--expose-gc"],
    },
    `127.0.0.1:${port}`,
    `127.0.0.1:${inspector}`,
  );
  scope.after(async () => {
    if (child.exitCode !== null) return;
    child.kill("SIGTERM");
    await once(child, "exit");
  });
  const edge = {
    url: `http://127.0.0.1:${port}`,
    pid: child.pid,
    send: (request) => send(edge.url, request),
    /**
     * @param {string} path
     * @param {{ token?: string }} [options]
     */
    get: (path, { token } = {}) =>
      edge.send({ path, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }),
    log: (mode) => edge.get(`/test/log/${mode}`),
    async memory() {
      let rss = Infinity;
      for (let look = 0; look < 5; look += 1) {
        await edge.get("/test/collect");
        const kilobytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]);
        rss = Math.min(rss, kilobytes * 1024);
      }
      const wasm = Number((await edge.get("/test/wasm")).body);
      return { rss, heap: await heapBytes(inspector), wasm };
    },
  };
  await until("it answers", async () => (await edge.get("/health")).status === 200);
  return edge;
}

// Returns the bytes of V8's heap that are in use, with what its objects own outside of it.
async function heapBytes(inspector) {
  const response = await fetch(`http://127.0.0.1:${inspector}/json`);
  const targets = /** @type {any[]} */ (await response.json());
  const main = targets.find(({ id, title }) => `${id} ${title}`.includes("main"));
  const socket = new WebSocket(main.webSocketDebuggerUrl);
  await once(socket, "open");
  socket.send(JSON.stringify({ id: 1, method: "Runtime.getHeapUsage" }));
  const [{ data }] = await once(socket, "message");
  socket.close();
  const { usedSize, embedderHeapUsedSize = 0 } = JSON.parse(data).result;
  return usedSize + embedderHeapUsedSize;
}

// Sends `count` requests, taking `requests` (texts, or functions that return one) in turn, over `atOnce`
// sockets at a time, and resets each connection `afterMs` milliseconds after the request was written.
export async function abort(url, requests, { count, atOnce = 100, afterMs = 10 }) {
  const { hostname, port } = new URL(url);
  let next = 0;
  const one = (text) =>
    new Promise((resolve) => {
      const socket = connect({ host: hostname, port: Number(port) });
      socket
        .on("error", () => {})
        .on("close", resolve)
        .resume();
      socket.on("connect", () => socket.write(text, () => setTimeout(() => socket.resetAndDestroy(), afterMs)));
    });
  const work = async () => {
    while (next < count) {
      const request = requests[next % requests.length];
      next += 1;
      await one(typeof request === "function" ? request() : request);
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
}
