// Starts the built worker in workerd without Miniflare, whose own Workers would add to the memory that is
// measured. `heldBytes` runs V8's garbage collection first, so that only reachable memory counts.
//
//   const edge = await startLean(scope, { auth, users, policy });
//   edge.url, edge.pid, edge.log(mode)      sets the revocation log to "pass" or "hang"
//   await edge.heldBytes()                  memory of the process after a garbage collection

import { once } from "node:events";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { join } from "node:path";

import { startWorkerd } from "../../bench/workerd.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../scripts/lib/ports.js";
import { makeAssertionKey } from "./assertion.js";
import { buildFor } from "./edge.js";
import { send } from "./http.js";
import { temporaryFolder } from "./run.js";
import { until } from "./wait.js";

const require = createRequire(import.meta.url);

// In the mode "hang" the revocation log answers late, but within the gateway's timeout.
const ENTRY = `
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
    if (pathname === "/test/nothing") return new Response(null, { status: 204 });
    if (pathname.startsWith("/test/log/")) {
      mode = pathname.slice("/test/log/".length);
      return new Response(null, { status: 204 });
    }
    return gateway.fetch(request, env, context);
  },
};
`;

export async function startLean(scope, { auth, users, policy }) {
  const { unstable_readConfig: readConfig } = require("wrangler");
  process.env.WRANGLER_LOG = "none";
  const config = readConfig({ config: join(ROOT, "wrangler.toml") });
  const build = await buildFor(policy);
  const folder = temporaryFolder(scope, "lean");
  const entry = join(folder, "observed.js");
  writeFileSync(entry, ENTRY);
  const modules = readdirSync(build, { recursive: true })
    .filter((name) => /\.(?:js|wasm)$/.test(name))
    .map((name) => ({ name, path: join(build, name) }));
  const port = await probePort(0);
  const child = startWorkerd(
    folder,
    {
      modules: [{ name: "observed.js", path: entry }, ...modules],
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
    get: (path, { token } = {}) =>
      edge.send({ path, headers: token === undefined ? {} : { authorization: `Bearer ${token}` } }),
    log: (mode) => edge.get(`/test/log/${mode}`),
    async heldBytes() {
      let least = Infinity;
      for (let look = 0; look < 5; look += 1) {
        await edge.get("/test/collect");
        const kilobytes = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]);
        least = Math.min(least, kilobytes * 1024);
      }
      return least;
    },
  };
  await until("it answers", async () => (await edge.get("/health")).status === 200);
  return edge;
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
