// The three programs of a local stack: their command lines, the settings and secrets that each gets, and
// how their readiness is checked.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { DEFAULT_DATA, NODE, ORIGIN, ROOT, WRANGLER } from "./paths.js";
import { HOST } from "../../cli/lib/ports.js";
import { openLogFile } from "./log-file.js";
import { EXIT_USAGE, ScriptError, errorCode } from "../../cli/lib/errors.js";
import { parseJson } from "../../cli/lib/files.js";
import { WRANGLER_REQUEST, wranglerEnv } from "../../cli/lib/wrangler.js";

/**
 * @import { Note } from "../../cli/lib/progress.js"
 * @import { Processes, Running, Ended } from "../../cli/lib/processes.js"
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

// Longest wait for a program to become ready; a laptop under load takes 20 s.
const READY_MS = 120_000;
const ASK_MS = 5_000;
const POLL_MS = 50;

/**
 * Resolves when every readiness URL answers 200; rejects when the program ends first.
 * @param {Service} service
 * @param {Running} running
 * @param {{ note?: Note }} [options]
 */
export async function waitUntilReady(service, running, { note = () => {} } = {}) {
  const end = Date.now() + READY_MS;
  for (const url of service.ready) {
    for (;;) {
      const answer = await fetchStatus(url);
      if (answer.status === 200) break;
      if (running.hasEnded) throw endedBadly(running, await running.ended);
      // A missing secret does not appear by waiting.
      const secret = answer.missing?.find((text) => text.startsWith("secret "));
      if (secret !== undefined) {
        throw new ScriptError(`${service.name} is not ready: ${secret}; write it into ${service.secrets}.`, {
          code: EXIT_USAGE,
        });
      }
      if (Date.now() > end) {
        throw new ScriptError(
          `${service.name} did not become ready in ${READY_MS / 1000} s (${url}: ${answer.said}); its last lines are above.`,
          { lines: running.lastLines },
        );
      }
      note(answer.status === undefined ? "" : answer.said);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  note("");
}

/**
 * Resolves with what a running gateway lacks, such as "secret METRICS_TOKEN".
 * @param {string} url
 */
export async function fetchMissing(url) {
  return (await fetchStatus(`${url}/ready`)).missing ?? [];
}

/**
 * @param {string} url
 * @returns {Promise<{ status?: number, missing?: string[], said: string }>}
 */
async function fetchStatus(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ASK_MS), redirect: "manual" });
    const text = await response.text();
    const missing = response.status === 200 ? [] : [parseJson(text)?.missing ?? []].flat().map(String);
    return { status: response.status, missing, said: `${response.status} ${missing.join(", ")}`.trim() };
  } catch (error) {
    const { cause, name } = /** @type {Error} */ (error);
    return { status: undefined, said: String(errorCode(cause) ?? name) };
  }
}

/**
 * @param {Running} running
 * @param {Ended} ended
 */
export function endedBadly(running, { code, signal, error }) {
  const how = error !== undefined ? error.code : (signal ?? `exit code ${code}`);
  return new ScriptError(`${running.name} ended (${how}); its last lines are above.`, {
    lines: running.lastLines,
  });
}
