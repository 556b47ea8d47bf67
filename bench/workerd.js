// Runs a Worker in workerd directly, similar to the platform: without Miniflare, which puts another Worker in
// front of every outgoing request.

import { spawn } from "node:child_process";
import { closeSync, copyFileSync, mkdirSync, openSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const require = createRequire(import.meta.url);

// KV in the memory of a Worker, which the runtime's binding calls over HTTP.
const STORE = `const values = new Map();
export default {
  async fetch(request) {
    const key = new URL(request.url).pathname;
    if (request.method === "PUT") values.set(key, await request.arrayBuffer());
    const value = values.get(key);
    return value === undefined ? new Response(null, { status: 404 }) : new Response(value);
  },
};`;

// A rate limit that is never reached.
const LIMIT = "export default () => ({ limit: async () => ({ success: true }) });";

// For profiling: V8_FLAGS=--perf-basic-prof npm run bench, with Linux's perf.
const V8_FLAGS = (process.env.V8_FLAGS ?? "").split(" ").filter(Boolean);

// Cap'n Proto quotes text like JSON.
const text = (value) => JSON.stringify(value);
const list = (items) => `[${items.join(", ")}]`;

// `worker` is { modules: [{ name, path }], date, texts, stores, objects, limits, v8Flags }: modules with
// the entry first, texts by name, and names of the other bindings, objects with their classes.
// Returns the configuration; the modules' files are in the same directory under their names.
function configure(
  { modules, date, texts = {}, stores = [], objects = {}, limits = [], v8Flags = [] },
  { address, disk },
) {
  const kinds = { js: "esModule", wasm: "wasm" };
  const embedded = modules.map(
    ({ name }) => `(name = ${text(name)}, ${kinds[name.split(".").pop()]} = embed ${text(name)})`,
  );
  const bindings = [
    ...Object.entries(texts).map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
    ...stores.map((name) => `(name = ${text(name)}, kvNamespace = "store")`),
    ...Object.entries(objects).map(([name, type]) => `(name = ${text(name)}, durableObjectNamespace = ${text(type)})`),
    ...limits.map((name) => `(name = ${text(name)}, wrapped = (moduleName = "bench:limit", innerBindings = []))`),
  ];
  const namespaces = Object.values(objects).map(
    (type) => `(className = ${text(type)}, uniqueKey = ${text(type)}, enableSql = true)`,
  );
  return `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = ${list(embedded)},
      compatibilityDate = ${text(date)},
      bindings = ${list(bindings)},
      ${namespaces.length > 0 ? `durableObjectNamespaces = ${list(namespaces)}, durableObjectStorage = (localDisk = "objects"),` : ""}
    )),
    (name = "store", worker = (modules = [(name = "store.js", esModule = ${text(STORE)})], compatibilityDate = ${text(date)})),
    (name = "objects", disk = (path = ${text(disk)}, writable = true)),
    (name = "internet", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", address = ${text(address)}, http = (), service = "main")],
  extensions = [(modules = [(name = "bench:limit", internal = true, esModule = ${text(LIMIT)})])],
  # As on the platform, each line of log is written, as JSON.
  logging = (structuredLogging = true),
  v8Flags = ${list([...V8_FLAGS, ...v8Flags].map(text))},
);
`;
}

/**
 * Starts workerd; its log is discarded.
 * @param {string} folder
 * @param {any} worker see `configure`
 * @param {string} address
 * @param {string} [inspector] address for V8's inspector
 */
export function startWorkerd(folder, worker, address, inspector) {
  for (const { name, path } of worker.modules) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    if (path !== join(folder, name)) copyFileSync(path, join(folder, name));
  }
  const disk = join(folder, "objects");
  mkdirSync(disk, { recursive: true });
  const config = join(folder, "config.capnp");
  writeFileSync(config, configure(worker, { address, disk }));
  const { default: workerd } = require("workerd");
  // Not a pipe, which this process would have to read.
  const nowhere = openSync("/dev/null", "w");
  // V8 writes its profiling files into the working directory.
  const flags = inspector === undefined ? [] : [`--inspector-addr=${inspector}`];
  const child = spawn(workerd, ["serve", config, ...flags], { cwd: folder, stdio: ["ignore", nowhere, nowhere] });
  closeSync(nowhere);
  return child;
}
