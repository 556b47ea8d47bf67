// The three programs of a local stack: their command lines, the settings and secrets that each gets, and
// how their readiness is checked.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { DEFAULT_DATA, NODE, ORIGIN, ROOT, WRANGLER } from "./paths.js";
import { HOST } from "../../cli/lib/ports.js";
import { openLogFile } from "../../cli/lib/log-file.js";
import { WRANGLER_REQUEST, wranglerEnv } from "../../cli/lib/wrangler.js";

/**
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Secrets } from "./secrets.js"
 * @typedef {object} Service
 * @property {string} name
 * @property {string} url
 * @property {string[]} ready URLs that answer 200 when the service is ready
 * @property {string} command
 * @property {string[]} args
 * @property {NodeJS.ProcessEnv} env
 * @property {RegExp} [omit] lines of its output that are dropped
 * @property {string} [secrets] file of its secrets
 */

export const NAMES = ["auth", "users", "edge"];

/**
 * Each service gets only the secrets that it needs.
 * @type {Record<string, string[]>}
 */
const SECRETS = {
  auth: ["MASTER_KEY", "ASSERTION_KEYS_AUTH", "SERVICE_SECRET_AUTH_SERVICE", "SERVICE_SECRET_USER_SERVICE"],
  users: ["ASSERTION_KEYS_USERS", "SERVICE_SECRET_USER_SERVICE"],
  edge: [],
};
const ALL_SECRETS = [...new Set(Object.values(SECRETS).flat())];

/**
 * Returns the services by name.
 * @param {{ data: string, ports: Record<string, number>, secrets: Secrets, env?: NodeJS.ProcessEnv }} options
 * @returns {Record<string, Service>}
 */
export function describeServices({ data, ports, secrets, env = process.env }) {
  const url = Object.fromEntries(NAMES.map((name) => [name, `http://${HOST}:${ports[name]}`]));
  const bare = Object.fromEntries(Object.entries(env).filter(([name]) => !ALL_SECRETS.includes(name)));
  /** @param {string} name */
  const pick = (name) => Object.fromEntries(SECRETS[name].map((secret) => [secret, secrets.env[secret]]));
  /**
   * @param {string} name
   * @returns {Service}
   */
  const origin = (name) => ({
    name,
    url: url[name],
    ready: [`${url[name]}/ready`],
    command: ORIGIN,
    args: ["serve", name],
    env: {
      ...bare,
      ...pick(name),
      BIND_ADDR: HOST,
      DATA_DIR: data,
      AUTH_PORT: String(ports.auth),
      USERS_PORT: String(ports.users),
      AUTH_URL: url.auth,
      USERS_URL: url.users,
      EDGE_URL: url.edge,
    },
  });
  const secretsFile = data === DEFAULT_DATA ? [] : ["--env-file", secrets.files.edge];
  const auth = origin("auth");
  // Lets local programs call the auth service without the edge.
  auth.env.AUTH_DIRECT = env.AUTH_DIRECT ?? "loopback";
  return {
    auth,
    users: origin("users"),
    edge: {
      name: "edge",
      secrets: secrets.files.edge,
      omit: WRANGLER_REQUEST,
      url: url.edge,
      ready: [`${url.edge}/health`, `${url.edge}/ready`],
      command: NODE,
      args: [
        WRANGLER,
        "dev",
        ...["--ip", HOST, "--port", String(ports.edge), "--inspector-port", "0"],
        ...["--persist-to", join(data, "edge")],
        ...["--var", `UPSTREAM_AUTH_URL:${url.auth}`, "--var", `UPSTREAM_USERS_URL:${url.users}`],
        ...secretsFile,
        "--show-interactive-dev-session=false",
      ],
      env: { ...bare, ...wranglerEnv(join(data, "edge")) },
    },
  };
}

/**
 * Starts a service and writes its output to a file in `logs`.
 * @param {Processes} processes
 * @param {Service} service
 * @param {{ logs: string, onLine?: (line: string) => void }} options
 */
export function startService(processes, service, { logs, onLine = () => {} }) {
  mkdirSync(logs, { recursive: true });
  const log = openLogFile(join(logs, `${service.name}.log`));
  return processes.start(service.name, service.command, service.args, {
    cwd: ROOT,
    env: service.env,
    omit: service.omit,
    onLine(line) {
      log.write(line);
      onLine(line);
    },
  });
}
