// The edge as `portcullis serve` runs it: EDGE=serve runs tests/edge against it. What it lacks is skipped with a reason.

import { spawn, spawnSync } from "node:child_process";
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";

import { parse } from "smol-toml";

import { suffixOf } from "../../cli/lib/policy-document.js";
import { readPolicyOf } from "../../cli/lib/worker.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { NO_LIMIT, OBSERVED_LOG } from "./edge-workers.js";
import { temporaryFolder } from "./run.js";
import { until } from "./wait.js";

export const isServed = process.env.EDGE === "serve";

/**
 * Returns the reason to skip a test that needs what only the platform has, if the edge is served.
 * @param {string} reason
 */
export const onlyOnPlatform = (reason) => isServed && reason;

const require = createRequire(import.meta.url);
const CLI = join(ROOT, "cli", "bin", "portcullis.js");

// The loopback address of the trusted proxy; tests connect from another one.
const PROXY = "127.0.0.9";

// Path at which the observed entry runs the cron trigger.
const SCHEDULED = "/scheduled-by-a-test";

// What the command must not get from the environment of the tests.
const { UPSTREAM_AUTH_URL: _, ...ENV } = process.env;

/**
 * Sends a request to a Unix socket. Resolves with { status, headers, text, json() }.
 * @param {string} socketPath
 * @param {{ method?: string, path: string, headers?: Record<string, string>, body?: string }} options
 * @returns {Promise<{ status: number, headers: Headers, text: string, json: () => any }>}
 */
export function ask(socketPath, { method = "GET", path, headers = {}, body }) {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, headers: { host: "localhost", ...headers } }, async (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      try {
        for await (const part of answer) text += part;
      } catch (error) {
        reject(error);
      }
      const found = new Headers(/** @type {any} */ (answer.headers));
      resolve({ status: Number(answer.statusCode), headers: found, text, json: () => JSON.parse(text) });
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

/**
 * Returns what a request becomes when the trusted proxy sends it: tests state the client's address as the platform does.
 * @param {import("./http.js").Request} sent
 */
export function byProxy(sent) {
  const pairs = Array.isArray(sent.headers) ? sent.headers : Object.entries(sent.headers ?? {});
  const isAddress = ([name]) => name.toLowerCase() === "cf-connecting-ip";
  const stated = pairs.filter(isAddress).map(([, address]) => address);
  if (stated.length !== 1) return sent;
  const isForwarded = ([name]) => name.toLowerCase() === "x-forwarded-for";
  const before = pairs.filter(isForwarded).map(([, value]) => value);
  const others = pairs.filter((pair) => !isAddress(pair) && !isForwarded(pair));
  const headers = [...others, ["x-forwarded-for", [...before, ...stated].join(", ")]];
  return { ...sent, headers, localAddress: PROXY };
}

/**
 * Starts `portcullis serve`.
 * @param {import("./scope.js").Scope} scope
 * @param {{ folder: string, persist: string, bindings: Record<string, string>, limits: Record<string, { limit: number, period: number }>, twin?: boolean | "stranger", processes?: number, listen?: string, drain?: number,
 *   tls?: { cert: string, key: string }, policy?: string, hasCron?: boolean,
 *   onLine: (line: string) => void }} options
 */
export async function startServed(
  scope,
  {
    folder,
    persist,
    bindings,
    limits,
    twin,
    processes = 1,
    listen = "127.0.0.1:0",
    drain = 5,
    tls,
    policy,
    hasCron = false,
    onLine,
  },
) {
  const worker = join(temporaryFolder(scope, "worker"), "build");
  cpSync(folder, worker, { recursive: true });
  renameSync(join(worker, "entry.js"), join(worker, "observed-entry.js"));
  // As in Miniflare, the cron trigger runs when a test says so, and in the isolate that has the requests.
  const observed = OBSERVED_LOG.replaceAll("./entry.js", "./observed-entry.js");
  const entry = hasCron
    ? observed
    : observed.replace("...gateway,", "scheduled() {},").replace(
        "fetch(request, env, context) {",
        `$&
    if (request.url.endsWith("${SCHEDULED}"))
      return gateway.scheduled(undefined, env).then(() => new Response());`,
      );
  writeFileSync(join(worker, "entry.js"), entry);
  const project = join(worker, "wrangler.toml");
  /** @type {any} */
  const config = parse(readFileSync(join(ROOT, "wrangler.toml"), "utf8"));
  // The command refuses a policy with a limit that is not bound.
  const needed = Object.keys(readPolicyOf(folder).limits ?? {}).map((name) => `LIMIT_${suffixOf(name)}`);
  const names = new Set([...config.ratelimits.map(({ name }) => name), ...needed]);
  const ratelimits = [...names].map((name) => {
    const { limit, period } = limits[name] ?? NO_LIMIT;
    return `[[ratelimits]]\nname = "${name}"\nsimple = { limit = ${limit}, period = ${period} }\n`;
  });
  writeFileSync(project, `compatibility_date = "${config.compatibility_date}"\n${ratelimits.join("")}`);
  const run = join(persist, "run");
  const { DEVELOPMENT, ...variables } = bindings;
  const env = { ...ENV, ...variables };
  /** @type {import("node:child_process").ChildProcess | undefined} */
  let child;
  /** @type {import("node:child_process").ChildProcess | undefined} */
  let other;
  let port;

  const pids = (...args) => {
    const { stdout } = spawnSync("pgrep", args, { encoding: "utf8" });
    return stdout.split("\n").filter(Boolean).map(Number);
  };
  const running = () => {
    const [owner] = pids("-f", "--", join(run, "1", "owner.capnp"));
    return { owner, edges: pids("-f", "--", `${join(run, "1", "edge.capnp")} --socket-fd`) };
  };

  const begin = async () => {
    const options = {
      worker,
      config: project,
      state: persist,
      listen,
      "trusted-proxy": PROXY,
      drain,
      processes,
      policy,
    };
    const args = Object.entries({ ...options, "tls-cert": tls?.cert, "tls-key": tls?.key })
      .filter(([, value]) => value !== undefined)
      .flatMap(([name, value]) => [`--${name}`, String(value)]);
    if (DEVELOPMENT === "true") args.push("--development");
    child = spawn(process.execPath, [CLI, "serve", ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    let isReady = false;
    const read = (stream, use) => {
      let rest = "";
      stream.setEncoding("utf8");
      stream.on("data", (text) => {
        const lines = (rest + text).split("\n");
        rest = lines.pop();
        lines.forEach(use);
      });
    };
    read(child.stdout, (line) => {
      if (!isReady) output += `${line}\n`;
      const ready = /"source":"serve","message":"ready".*"port":(\d+)/.exec(line);
      if (ready !== null) {
        isReady = true;
        port = Number(ready[1]);
      }
      onLine(line);
    });
    read(child.stderr, (line) => (output += `${line}\n`));
    await until("the edge is served", () => isReady || child.exitCode !== null);
    if (!isReady) throw new Error(`portcullis serve ended:\n${output}`);
    if (!twin) return;
    const { default: workerd } = require("workerd");
    const sockets = ["public", "private"].map((name) => {
      rmSync(join(run, `twin-${name}.sock`), { force: true });
      return `--socket-addr=${name}=unix:twin-${name}.sock`;
    });
    other = spawn(workerd, ["serve", "--import-path=/", join(run, "1", "edge.capnp"), ...sockets], {
      cwd: run,
      env: { ...env, DEVELOPMENT: String(DEVELOPMENT === "true") },
      stdio: ["ignore", "pipe", "ignore"],
    });
    read(other.stdout, onLine);
    await until("the other process answers", () =>
      ask(join(run, "twin-private.sock"), { path: "/health" }).then(
        () => true,
        () => false,
      ),
    );
  };

  const end = async (process) => {
    if (process === undefined || process.exitCode !== null || process.signalCode !== null) return;
    const exited = new Promise((resolve) => process.once("exit", resolve));
    process.kill("SIGTERM");
    await exited;
  };

  await begin();
  return {
    get url() {
      return `http://127.0.0.1:${port}`;
    },
    get child() {
      return child;
    },
    // The wrangler.toml of the command.
    project,
    // The process id of the edge's workerd.
    get pid() {
      return running().edges[0];
    },
    processes: running,
    // Kills the whole command and starts it again.
    async killAll() {
      const { owner, edges } = running();
      const [supervisor] = pids("-P", String(child.pid));
      for (const pid of [child.pid, supervisor, owner, ...edges]) process.kill(pid, "SIGKILL");
      await begin();
    },
    async twin(path, { method, headers }) {
      const answer = await ask(join(run, "twin-private.sock"), {
        method,
        path,
        headers: { ...headers, host: `127.0.0.1:${port}` },
      });
      return { status: answer.status, json: async () => answer.json() };
    },
    object: (path, { method, body }) =>
      ask(join(run, "objects.sock"), { method, path: `/REVOCATIONS/log${path}`, body }),
    kv() {
      const socket = join(run, "kv.sock");
      const keyed = (name) => `/${encodeURIComponent(name)}`;
      return {
        get: async (name) => {
          const { status, text } = await ask(socket, { path: keyed(name) });
          return status === 404 ? null : text;
        },
        put: (name, body) => ask(socket, { method: "PUT", path: keyed(name), body }),
        delete: (name) => ask(socket, { method: "DELETE", path: keyed(name) }),
        list: async () => (await ask(socket, { path: "/" })).json(),
      };
    },
    scheduled: () => ask(join(run, "edge-1-0.sock"), { path: SCHEDULED }),
    async dispose() {
      await end(other);
      await end(child);
    },
  };
}
