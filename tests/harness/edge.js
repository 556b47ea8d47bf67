// Starts the built worker in workerd (in about 200 ms) with the bindings of wrangler.toml, on a free
// port, in front of fake upstreams.
//
//   const scope = fileScope();                                                 see scope.js
//   const { auth, users, issuer, edge } = await startGateway(scope);
//
// or, with other upstreams or another issuer,
//
//   const auth = await startUpstream(scope);
//   const issuer = (await createIssuer()).publishOn(auth);
//   const edge = await startEdge(scope, { auth, users: auth });
//
// and then
//
//   const answer = await edge.send({ method, path, headers, body | json });    sent unchanged, see http.js
//   await edge.get("/api/v1/users/1", { token, headers })
//   users.requests.at(-1).headers                 what the upstream received
//   await readAssertion(users.requests.at(-1).assertion, edge.assertionKeys.users, "users")
//   await edge.lineOf(answer)                     the log line of that request, parsed
//   edge.lines, edge.output                       parsed log lines; the whole log as text
//   (await edge.kv()).put(…)                      the KEYS namespace
//   await edge.scheduled()                        the cron trigger
//   await edge.refreshedFrom(auth)                the cron trigger, until it has fetched the key set
//   await edge.restart({ vars })                  a new isolate with the same KV
//   await edge.twin({ path, token })              a request to another isolate of the same location
//   await edge.log("fail")                        see faulty-log.js
//   await edge.logObject("/newest", { body })     the answer of the revocation log, and the number of
//                                                 rows that it read; see OBSERVED_LOG
//
// `scope` is fileScope(), or testScope(t) within one test.

import { execFileSync } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { buildEdge } from "../../scripts/lib/edge-build.js";
import { BUILD, ROOT, TARGET } from "../../scripts/lib/paths.js";
import { makeAssertionKey } from "./assertion.js";
import { byProxy, isServed, startServed } from "./edge-served.js";
import { workersOf } from "./edge-workers.js";
import { send } from "./http.js";
import { createIssuer } from "./issuer.js";
import { openLog, temporaryFolder } from "./run.js";
import { startUpstream } from "./upstream.js";
import { until } from "./wait.js";

/**
 * @typedef {object} EdgeOptions
 * @property {{ url: string }} [auth] an upstream
 * @property {{ url: string }} [users] an upstream
 * @property {Record<string, string | undefined>} [vars] more variables and secrets; undefined removes a
 *   default one
 * @property {string | { text: string, files?: Record<string, string> }} [policy] NAME of
 *   tests/edge/policies/NAME.toml instead of gateway.toml, or a policy that the test writes, for example with
 *   a port, and the files that it names. Its upstreams must have the names given here; others need their URLs
 *   in `vars`
 * @property {string} [build] folder of another build of the Worker
 * @property {boolean | "stranger" | { build: string }} [twin] starts another isolate; "stranger" gives it a revocation
 *   log of its own, a folder makes it another build
 * @property {boolean} [faultyLog] puts faulty-log.js in front of the revocation log
 * @property {Record<string, { limit: number, period: number }>} [limits] by name, such as LIMIT_LOGIN; by
 *   default limits are too high to be reached
 * @property {Function} [outside] replaces the network: gets { method, url, headers } of each outgoing
 *   request and returns { status, json | body }. The fake upstreams are then not reached
 * @property {Record<string, string>} [services] Workers to which the gateway has service bindings: their scripts by the
 *   binding's name
 * @property {string} [kvFolder] directory of KV; by default it is removed with the edge, and kept across
 *   restarts
 */

const require = createRequire(import.meta.url);

const POLICIES = join(ROOT, "tests", "edge", "policies");

// `npm test` has already built everything; a suite that runs alone builds here.
export async function buildFor(policy) {
  if (policy === undefined) {
    if (!process.env.TEST_BUILT) await buildEdge();
    return BUILD;
  }
  const file = join(POLICIES, `${policy}.toml`);
  const out = join(TARGET, "policies", policy);
  if (!existsSync(file)) throw new Error(`there is no ${file}`);
  if (!process.env.TEST_BUILT) await buildEdge({ out, policy: file });
  return out;
}

async function buildText(scope, { text, files = {} }) {
  const folder = temporaryFolder(scope, "policy");
  const file = join(folder, "gateway.toml");
  writeFileSync(file, text);
  for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  const out = join(folder, "build");
  await buildEdge({ out, policy: file });
  return out;
}

/**
 * Starts the edge in front of two fake upstreams, the first of which publishes the keys of an issuer.
 * @param {import("./scope.js").Scope} scope
 * @param {EdgeOptions} [options]
 */
export async function startGateway(scope, options = {}) {
  const auth = await startUpstream(scope);
  const users = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const edge = await startEdge(scope, { auth, users, ...options });
  return { auth, users, issuer, edge };
}

/**
 * @param {import("./scope.js").Scope} scope
 * @param {EdgeOptions} [options]
 */
export async function startEdge(
  scope,
  { auth, users, vars = {}, policy, twin, faultyLog, limits = {}, outside, services, kvFolder, build } = {},
) {
  process.env.WRANGLER_LOG = "none";
  const { Miniflare, Response, convertV4MiniflareOptions } = require("miniflare");
  const {
    unstable_getMiniflareWorkerOptions: readWorkerOptions,
    unstable_readConfig: readConfig,
  } = require("wrangler");

  const folder = build ?? (typeof policy === "object" ? await buildText(scope, policy) : await buildFor(policy));
  const persist = kvFolder ?? temporaryFolder(scope, "kv");
  const config = readConfig({ config: join(ROOT, "wrangler.toml") });
  const { workerOptions } = readWorkerOptions(config);
  const log = openLog("edge");
  const assertionKeys = { auth: makeAssertionKey(), users: makeAssertionKey() };
  let given = vars;
  let runtime;
  let url;

  const edge = {
    assertionKeys,
    lines: [],
    output: "",
    get url() {
      return url;
    },
    // The process id of workerd.
    get pid() {
      if (isServed) return runtime.pid;
      return Number(execFileSync("pgrep", ["-n", "-P", String(process.pid), "workerd"], { encoding: "utf8" }));
    },
    send: (request) => send(url, isServed ? byProxy(request) : request),
    get: (path, options) => edge.send({ ...withToken(options), method: "GET", path }),
    post: (path, json, options) => edge.send({ ...withToken(options), method: "POST", path, json }),
    // Resolves with the log line of an answer, which arrives after the answer.
    lineOf: (answer) =>
      until("the request's log line", () =>
        edge.lines.find(
          (line) =>
            line.event_type === undefined &&
            line.request_id !== undefined &&
            line.request_id === answer.headers["x-request-id"],
        ),
      ),
    async twin({ method = "GET", path, token, headers: more = {} }) {
      const headers = { ...more, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
      if (isServed) {
        const answer = await runtime.twin(path, { method, headers });
        return { status: answer.status, json: await answer.json() };
      }
      const other = await runtime.getWorker("twin");
      const answer = await other.fetch(`${url}${path}`, { method, headers });
      return { status: answer.status, json: await answer.json() };
    },
    /**
     * @param {string} path
     * @param {{ body?: string }} [request]
     */
    async logObject(path, { body } = {}) {
      const method = body ? "POST" : "GET";
      const answer = isServed
        ? await runtime.object(path, { method, body })
        : await objectOf(runtime).then((stub) => stub.fetch(`http://log.example${path}`, { method, body }));
      const text = isServed ? answer.text : await answer.text();
      const rows = Number(answer.headers.get("x-rows-read"));
      return { status: answer.status, json: text === "" ? undefined : JSON.parse(text), rows };
    },
    async log(mode) {
      await (await runtime.getWorker("faulty-log")).fetch(`http://log.example/${mode}`);
    },
    kv: () => (isServed ? runtime.kv() : runtime.getKVNamespace("KEYS")),
    async scheduled() {
      if (isServed) return runtime.scheduled();
      return (await runtime.getWorker()).scheduled({ cron: "*/5 * * * *" });
    },
    // Runs the cron trigger until it has fetched the keys of `issuer` (an upstream): after a failure the
    // gateway pauses.
    async refreshedFrom(issuer, path = "/.well-known/jwks.json") {
      const asked = () => issuer.requests.filter((request) => request.path === path).length;
      const before = asked();
      await until("the issuer is asked again", async () => {
        await edge.scheduled();
        return asked() > before;
      });
    },
    async restart(changes = {}) {
      given = { ...given, ...changes.vars };
      await runtime.dispose();
      await begin();
    },
    async stop() {
      await runtime?.dispose();
      runtime = undefined;
      await new Promise((resolve) => log.end(resolve));
    },
  };

  const outboundService =
    outside &&
    (async ({ method, url: asked, headers }) => {
      const { status = 200, json, body = JSON.stringify(json) } = await outside({ method, url: asked, headers });
      return new Response(body, { status });
    });

  const begin = async () => {
    const bindings = {
      // Not workerOptions.bindings: those include the developer's .dev.vars.
      ...config.vars,
      DEVELOPMENT: "true",
      UPSTREAM_AUTH_URL: auth?.url,
      UPSTREAM_USERS_URL: users?.url,
      ASSERTION_KEYS_AUTH: assertionKeys.auth,
      ASSERTION_KEYS_USERS: assertionKeys.users,
      ...given,
    };
    const set = Object.fromEntries(Object.entries(bindings).filter(([, value]) => value !== undefined));
    const onLine = (message) => {
      edge.output += `${message}\n`;
      log.write(`${message}\n`);
      const line = parse(message);
      if (line !== undefined) edge.lines.push(line);
    };
    if (isServed) {
      const otherBuild = typeof twin === "object";
      const missing = Object.entries({ faultyLog, outside, services, otherBuild }).find(([, value]) => value);
      if (missing !== undefined)
        throw new Error(`the served edge has no ${missing[0]}; skip the test with onlyOnPlatform`);
      runtime = await startServed(scope, {
        folder,
        persist,
        bindings: set,
        limits,
        twin: otherBuild ? true : twin,
        onLine,
      });
      url = runtime.url;
      return;
    }
    const workers = workersOf(workerOptions, {
      folder,
      bindings: set,
      limits,
      twin,
      faultyLog,
      outboundService,
      services,
    });
    /** @type {any} */
    const options = {
      workers,
      resourcePersistencePath: persist,
      host: "127.0.0.1",
      port: 0,
      cf: false,
      handleStructuredLogs: ({ message }) => onLine(message),
    };
    runtime = new Miniflare(convertV4MiniflareOptions(options));
    url = String(await runtime.ready).replace(/\/$/, "");
  };

  scope.after(() => edge.stop());
  await begin();
  return edge;
}

async function objectOf(runtime) {
  const namespace = await runtime.getDurableObjectNamespace("REVOCATIONS", "gateway");
  return namespace.get(namespace.idFromName("log"));
}

/** @param {import("./http.js").Request & { token?: string }} [request] */
function withToken({ token, headers = {}, ...options } = {}) {
  if (token === undefined) return { ...options, headers };
  const pairs = Array.isArray(headers) ? headers : Object.entries(headers);
  return { ...options, headers: [...pairs, ["authorization", `Bearer ${token}`]] };
}

function parse(message) {
  try {
    const line = JSON.parse(message);
    return typeof line === "object" && line !== null ? line : undefined;
  } catch {
    return undefined;
  }
}
