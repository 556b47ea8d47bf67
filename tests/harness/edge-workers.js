// The Workers that startEdge runs in Miniflare: the gateway, and with it another isolate of it and
// faulty-log.js if a test asks for them.

import { join } from "node:path";

import { modulesOf } from "../../cli/lib/worker.js";
import { ROOT } from "../../scripts/lib/paths.js";

// The revocation log's object with additions for tests: /alarm runs the alarm, /alarm-at returns its time,
// /late-alarm sets it decades ahead, /age makes all entries two minutes older, and each answer has the number
// of rows read. With the variable LOG_KV each read of KV is logged; with the value fail, or fail and a prefix of names,
// reads and writes fail. UNBOUND names a
// binding that the gateway lacks.
export const OBSERVED_LOG = `
import gateway, { Revocations as Log } from "./entry.js";
const logged = (store, mode) => {
  const check = async (name) => {
    const [what, prefix = ""] = mode.split(" ");
    if (what !== "fail" || !name.startsWith(prefix)) return;
    await scheduler.wait(500);
    throw new Error("fails as the test says");
  };
  return {
    get: async (name, ...rest) => {
      console.log("KV read of " + name);
      await check(name);
      return store.get(name, ...rest);
    },
    put: async (name, ...rest) => {
      await check(name);
      return store.put(name, ...rest);
    },
  };
};
export default {
  ...gateway,
  fetch(request, env, context) {
    const seen = env.LOG_KV || env.UNBOUND ? { ...env } : env;
    if (env.LOG_KV) seen.KEYS = logged(env.KEYS, env.LOG_KV);
    if (env.UNBOUND) delete seen[env.UNBOUND];
    return gateway.fetch(request, seen, context);
  },
};
export { Metrics } from "./entry.js";
export class Revocations extends Log {
  constructor(state, env) {
    const { storage } = state;
    const cursors = [];
    const sql = {
      exec(...args) {
        const cursor = storage.sql.exec(...args);
        cursors.push(cursor);
        return cursor;
      },
    };
    const observed = {
      sql,
      getAlarm: () => storage.getAlarm(),
      setAlarm: (...args) => storage.setAlarm(...args),
    };
    super({ storage: observed }, env);
    this.sql = storage.sql;
    this.alarms = storage;
    this.cursors = cursors;
  }

  async fetch(request) {
    const { pathname } = new URL(request.url);
    if (pathname === "/alarm") {
      await this.alarm();
      return new Response(null, { status: 204 });
    }
    if (pathname === "/alarm-at") return Response.json(await this.alarms.getAlarm());
    if (pathname === "/late-alarm") {
      await this.alarms.setAlarm(2 * Date.now());
      return new Response(null, { status: 204 });
    }
    if (pathname === "/age") {
      this.sql.exec("UPDATE entries SET noted_at = noted_at - 120000");
      return new Response(null, { status: 204 });
    }
    this.cursors.length = 0;
    const answer = await super.fetch(request);
    const rows = this.cursors.reduce((sum, cursor) => sum + cursor.rowsRead, 0);
    const headers = { "x-rows-read": String(rows) };
    return new Response(answer.body, { status: answer.status, headers });
  }
}
`;

const TYPES = { js: "ESModule", wasm: "CompiledWasm" };

// Limits that no test reaches.
export const NO_LIMIT = { limit: 1_000_000, period: 60 };

const HARNESS = join(ROOT, "tests", "harness");

// Returns Miniflare's options of the Workers, the gateway first. `options` are those that wrangler reads from
// wrangler.toml; `folder` is the build of the worker.
export function workersOf(options, { folder, bindings, limits, twin, faultyLog, outboundService, services }) {
  const { METRICS, REVOCATIONS } = options.durableObjects;
  const { className, useSQLite } = REVOCATIONS;
  const logOf = (scriptName) => ({ className, useSQLite, scriptName });
  const { modulesRules: _, ...rest } = options;
  /** @type {Record<string, any>} */
  const gateway = {
    ...rest,
    name: "gateway",
    modules: observedModulesOf(folder),
    modulesRoot: folder,
    bindings,
    ratelimits: Object.fromEntries(
      Object.entries(options.ratelimits).map(([name, limiter]) => [
        name,
        { ...limiter, simple: limits[name] ?? NO_LIMIT },
      ]),
    ),
  };
  if (outboundService !== undefined) gateway.outboundService = outboundService;
  if (services !== undefined) {
    gateway.serviceBindings = Object.fromEntries(Object.keys(services).map((name) => [name, name.toLowerCase()]));
  }
  // The binding REAL makes the runtime load the class here.
  if (faultyLog) gateway.durableObjects = { METRICS, REVOCATIONS: logOf("faulty-log"), REAL: logOf() };
  const workers = [gateway];
  if (twin) {
    const log = twin === "stranger" ? undefined : faultyLog ? "faulty-log" : "gateway";
    workers.push({
      ...gateway,
      ...(twin.build && { modules: observedModulesOf(twin.build), modulesRoot: twin.build }),
      name: "twin",
      durableObjects: { METRICS: { ...METRICS, scriptName: "gateway" }, REVOCATIONS: logOf(log) },
    });
  }
  if (faultyLog) {
    workers.push({
      name: "faulty-log",
      compatibilityDate: options.compatibilityDate,
      modules: [{ type: "ESModule", path: join(HARNESS, "faulty-log.js") }],
      modulesRoot: HARNESS,
      durableObjects: { REAL: logOf("gateway"), OWN: { className, useSQLite } },
    });
  }
  for (const [name, script] of Object.entries(services ?? {})) {
    workers.push({
      name: name.toLowerCase(),
      compatibilityDate: options.compatibilityDate,
      modules: [{ type: "ESModule", path: join(HARNESS, `${name.toLowerCase()}.js`), contents: script }],
      modulesRoot: HARNESS,
    });
  }
  return workers;
}

// Returns the modules of a build, behind the entry with the observed log.
function observedModulesOf(folder) {
  const modules = modulesOf(folder).map(({ name, path }) => ({ type: TYPES[name.split(".").pop()], path }));
  return [{ type: "ESModule", path: join(folder, "observed.js"), contents: OBSERVED_LOG }, ...modules];
}
