// `npm start`: builds and starts the whole stack (auth service, user service, gateway) from a fresh clone,
// and ends it in order. Settings come from the environment; `--help` lists them.

import { mkdirSync, statSync, unwatchFile, watchFile, writeFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";

import { readArguments } from "../cli/lib/arguments.js";
import { DEFAULT_PORTS, claimPort, portSetting } from "../cli/lib/ports.js";
import { policyFile } from "../cli/lib/project.js";
import { DEFAULT_DATA, ROOT, dataFolder } from "./lib/paths.js";
import { createProcesses } from "../cli/lib/processes.js";
import { CHANGED, createReloadReporter } from "../cli/lib/reload.js";
import { ensureSecrets } from "./lib/secrets.js";
import { endedBadly, fetchMissing, waitUntilReady } from "../cli/lib/readiness.js";
import { NAMES, describeServices, startService } from "./lib/services.js";
import { setUp } from "./lib/setup.js";
import { listenForEnd } from "../cli/lib/signals.js";
import { createProgress } from "../cli/lib/progress.js";
import { EXIT_USAGE, ScriptError, reportError } from "../cli/lib/errors.js";

/**
 * @import { Option } from "../cli/lib/arguments.js"
 * @import { Running } from "../cli/lib/processes.js"
 * @import { Service } from "./lib/services.js"
 * @typedef {{ help?: boolean, logs?: boolean, names: string[] }} Options
 */

const HELP = `npm start                     installs what is missing, builds and starts everything
npm start -- auth users       starts only some of: auth, users, edge
npm start -- --logs           also prints the services' logs
npm start -- --help           shows this

  EDGE_PORT        port of the gateway (8787); 0 takes any free one
  AUTH_PORT        port of the auth service (8083)
  USERS_PORT       port of the user service (8081)
  DATA_DIR         directory of databases, logs, secrets and the gateway's state (.data)
  GATEWAY_CONFIG   policy of the gateway (gateway.toml)
  LOG_LEVEL        log level of the services (info)
  AUTH_DIRECT      loopback (default here): programs on this machine may register, log in and
                   validate tokens at the auth service's own port, without the gateway;
                   off: only through the gateway

Everything listens on 127.0.0.1 only. Ctrl-C ends it. Requires Node 20.6 or newer with npm; to
compile (at the first start, and after a change of Rust sources) also Rust (rustup) and a C
compiler.`;

/** @type {Record<string, string>} */
const PORT_VARIABLES = { edge: "EDGE_PORT", auth: "AUTH_PORT", users: "USERS_PORT" };

/**
 * @param {string[]} args
 * @returns {Options}
 */
function parseArguments(args) {
  /** @type {Record<string, Option>} */
  const options = { logs: { type: "boolean" } };
  const { values, positionals } = readArguments(args, { command: "npm start", options, choices: NAMES });
  return { ...values, names: positionals.length === 0 ? NAMES : positionals };
}

const processes = createProcesses();
const progress = createProgress();
let isStopping = false;
let isReady = false;

/**
 * @param {number} exitCode
 * @param {string} [sentence]
 */
async function stop(exitCode, sentence) {
  if (isStopping) return;
  isStopping = true;
  progress.freeze();
  if (sentence !== undefined) console.log(sentence);
  await processes.stopAll();
  process.exit(exitCode);
}

function listen() {
  listenForEnd(
    // Ctrl-C is how a stack ends; only an interrupted set-up is a failure.
    (code) => stop(isReady ? 0 : code, "\nStopping … press Ctrl-C again to kill what has not ended."),
    () => processes.killAll(),
  );
}

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) {
    console.log(HELP);
    process.exit(0);
  }
  listen();
  const data = dataFolder(process.env);
  const ports = { ...DEFAULT_PORTS };
  for (const name of NAMES) {
    const variable = PORT_VARIABLES[name];
    const port = portSetting(process.env, variable, DEFAULT_PORTS[name]);
    // Before the build: it takes minutes, and this check a moment.
    ports[name] =
      options.names.includes(name) || port === 0
        ? await claimPort(`the ${name === "edge" ? "edge" : `${name} service`}`, variable, port)
        : port;
  }
  if (new Set(options.names.map((name) => ports[name])).size < options.names.length) {
    throw new ScriptError("EDGE_PORT, AUTH_PORT and USERS_PORT must differ.", { code: EXIT_USAGE });
  }

  const hasOrigin = options.names.some((name) => name !== "edge");
  const policyChangedAt = changedAt(resolve(ROOT, POLICY));
  await setUp(progress, { processes, origin: hasOrigin, edge: options.names.includes("edge") });
  const secrets = ensureSecrets(data);
  const services = describeServices({ data, ports, secrets });
  // Without the auth service the edge gets no keys, so it does not become ready; its health suffices.
  if (!options.names.includes("auth")) services.edge.ready.length = 1;
  const logs = join(data, "logs");
  const running = await startAll(options, services, logs);
  progress.close();
  if (isStopping) return;
  isReady = true;
  console.log(welcomeText({ options, services, running, logs, elapsed: progress.elapsed() }));
  if (options.names.includes("edge")) watchPolicy(policyChangedAt);
  await Promise.all(running.map((one) => watch(one, { ports, data })));
}

/**
 * @param {Options} options
 * @param {Record<string, Service>} services
 * @param {string} logs
 * @returns {Promise<Running[]>}
 */
async function startAll(options, services, logs) {
  return Promise.all(
    options.names.map((name) =>
      progress.run(`start ${name}`, async (note) => {
        const onReload = name === "edge" ? reloadReporter(services.edge, logs) : () => {};
        /** @param {string} line */
        const onLine = (line) => {
          if (options.logs) progress.say(`${name.padEnd(5)} | ${line}`);
          if (!isStopping) onReload(line);
        };
        const running = startService(processes, services[name], { logs, onLine });
        await waitUntilReady(services[name], running, { note });
        return running;
      }),
    ),
  );
}

const POLICY = policyFile(process.env);

/**
 * @param {Service} edge
 * @param {string} logs
 */
function reloadReporter(edge, logs) {
  return createReloadReporter({
    say: (text) => console.log(text),
    fetchMissing: () => fetchMissing(edge.url),
    secretsFile: shown(edge.secrets ?? ""),
    log: shown(join(logs, "edge.log")),
    policy: POLICY,
    onChange: () => (announcement.left = 0),
  });
}

const POLICY_POLL_MS = 100;

// Milliseconds until wrangler must have noticed a change: it misses those that come before it watches all files.
const NOTICED_MS = 2_000;
const ANNOUNCEMENTS_MAX = 10;

const announcement = { left: 0 };

/**
 * wrangler watches the policy in the checkout. For a policy elsewhere, writes a file that wrangler watches, until wrangler
 * has noticed it. `known` is when the policy in use was changed.
 * @param {number} known
 */
function watchPolicy(known) {
  const file = resolve(ROOT, POLICY);
  if (file === join(ROOT, "gateway.toml")) return;
  const changed = join(ROOT, CHANGED);
  mkdirSync(dirname(changed), { recursive: true });
  const announce = () => {
    if (isStopping || announcement.left === 0) return;
    announcement.left -= 1;
    writeFileSync(changed, new Date().toISOString());
    setTimeout(announce, NOTICED_MS).unref();
  };
  const begin = () => {
    announcement.left = ANNOUNCEMENTS_MAX;
    announce();
  };
  watchFile(file, { interval: POLICY_POLL_MS }, (now) => {
    if (isStopping) unwatchFile(file);
    // While an editor replaces the file, it is missing for a moment.
    else if (now.mtimeMs > 0) begin();
  });
  // It may have changed while everything started.
  if (changedAt(file) !== known) begin();
}

/**
 * Returns when a file was changed; 0 if it is missing.
 * @param {string} file
 */
const changedAt = (file) => statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;

/**
 * Returns a path relative to the current directory if it lies in it.
 * @param {string} file
 */
function shown(file) {
  const path = relative(process.cwd(), file);
  return path.startsWith("..") ? file : path;
}

/**
 * Reports a service that has ended: one that ended with exit code 0 leaves the others running, one that
 * failed ends them.
 * @param {Running} running
 * @param {{ ports: Record<string, number>, data: string }} options
 */
async function watch(running, { ports, data }) {
  const how = await running.ended;
  if (isStopping) return;
  if (how.code === 0) {
    const settings = NAMES.filter((name) => ports[name] !== DEFAULT_PORTS[name]).map(
      (name) => `${PORT_VARIABLES[name]}=${ports[name]} `,
    );
    if (data !== DEFAULT_DATA) settings.push(`DATA_DIR=${data} `);
    console.log(`\n${running.name} has ended; the others keep running. To start it again:`);
    console.log(`  ${settings.join("")}npm start -- ${running.name}`);
    return;
  }
  await stop(reportError(endedBadly(running, how)), "Stopping the others …");
}

/**
 * @param {{ options: Options, services: Record<string, Service>, running: Running[], logs: string, elapsed: string }} state
 */
function welcomeText({ options, services, running, logs, elapsed }) {
  const lines = ["", `Portcullis is ready (${elapsed}).`, ""];
  for (const { name, pid } of running)
    lines.push(`  ${name.padEnd(6)} ${services[name].url.padEnd(24)} process ${pid}`);
  lines.push(`  logs   ${relative(process.cwd(), logs) || "."}/{${options.names.join(",")}}.log`, "");
  if (options.names.includes("auth") && services.auth.env.AUTH_DIRECT === "loopback") {
    lines.push(
      "  The auth service also serves programs on this machine directly (AUTH_DIRECT=loopback):",
      "  register, login, refresh, logout, validate-token, me and public-key. In deployments this",
      "  is off.",
      "",
    );
  }
  if (options.names.includes("edge")) {
    const gateway = services.edge.url;
    lines.push(
      "Try this in another terminal:",
      "",
      `  gateway=${gateway}`,
      "  # register an account and get a token",
      `  curl -s $gateway/api/v1/auth/register -H 'content-type: application/json' \\`,
      `    -d '{"email":"ada@example.com","password":"correct horse battery"}'; echo`,
      `  token=$(curl -s $gateway/api/v1/auth/login -H 'content-type: application/json' \\`,
      `    -d '{"email":"ada@example.com","password":"correct horse battery"}' \\`,
      `    | node -pe 'JSON.parse(fs.readFileSync(0)).access_token')`,
      "  # with the token, and without one",
      `  curl -s $gateway/api/v1/auth/me -H "authorization: Bearer $token"; echo`,
      "  curl -si $gateway/api/v1/auth/me; echo",
      "  # log out, then use the token again",
      `  curl -s -X POST $gateway/api/v1/auth/logout -H "authorization: Bearer $token"; echo`,
      `  curl -si $gateway/api/v1/auth/me -H "authorization: Bearer $token"; echo`,
      "",
    );
  }
  lines.push("Ctrl-C ends everything.");
  return lines.join("\n");
}

try {
  await main();
} catch (error) {
  if (!isStopping) {
    const code = reportError(error);
    await stop(code);
  }
}
