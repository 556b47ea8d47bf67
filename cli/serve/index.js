// `portcullis serve`: the Worker on workerd, without Cloudflare. This process listens, gives the socket to the supervising
// process, and does not read it: Node would accept connections itself. So the socket lives as long as the command, and
// connections wait in it while an edge process is started again.

import { spawn } from "node:child_process";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

import { readArguments, usage } from "../lib/arguments.js";
import { errorCode, EXIT_PORT, ScriptError } from "../lib/errors.js";
import { policyFile } from "../lib/project.js";
import { OPTIONS, readSettings } from "./settings.js";

/** @import { Context } from "../lib/project.js" */

export const summary = "runs the gateway on this machine, without Cloudflare";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "serves gateway.toml at 127.0.0.1:8787"],
  ["--policy x.toml", "another policy"],
  ["--config FILE", "wrangler.toml with variables and rate limits (in the policy's folder)"],
  ["--state DIR", "folder of the revocation log, KV and metrics (portcullis-state)"],
  ["--listen ADDR:PORT", "another address"],
  ["--processes N", "edge processes that share the port (1)"],
  ["--trusted-proxy CIDR", "a network whose X-Forwarded-For and X-Forwarded-Proto count; may be repeated"],
  ["--tls-cert FILE --tls-key FILE", "serves HTTPS; PEM"],
  ["--ca FILE", "further CA certificates for upstreams and issuers; PEM"],
  ["--secrets DIR", "folder with a file for each secret, named as its variable"],
  ["--drain S", "seconds that requests have to end after SIGTERM (30)"],
  ["--worker DIR", "a built Worker, with its policy unless --policy is given"],
  ["--development", "allows plain HTTP and details for loopback; never in a deployment"],
  ["--help", "shows this"],
])}

Variables of the environment, such as METRICS_TOKEN, are the Worker's. SIGHUP loads policy, wrangler.toml,
secrets and certificate again.`;

const CHILD = fileURLToPath(new URL("child.js", import.meta.url));

// Connections that wait while no edge process accepts them. The system's own bound may be lower.
const BACKLOG = 1_024;

/**
 * @param {string[]} args
 * @param {Pick<Context, "command" | "env">} context
 */
export async function run(args, { command, env }) {
  const { values } = readArguments(args, { command, options: OPTIONS });
  if (values.help) {
    console.log(help(command));
    return 0;
  }
  const settings = readSettings(values, { policy: policyFile(env) });
  // A signal ends a command with a code of its own; it ends this one in order, with 0.
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.removeAllListeners(signal);
  return listen(settings.listen, (descriptor, port) => {
    // SQLite is experimental in Node 22.
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", CHILD], {
      stdio: ["ignore", "inherit", "inherit", descriptor, "ipc"],
    });
    child.send({ ...settings, listen: { ...settings.listen, port } });
    for (const signal of /** @type {const} */ (["SIGTERM", "SIGINT", "SIGHUP"]))
      process.on(signal, () => child.kill(signal === "SIGHUP" ? signal : "SIGTERM"));
    return new Promise((resolve) => child.once("exit", (code) => resolve(code ?? 1)));
  });
}

/**
 * Listens, and calls `use` with the socket's descriptor. Closes it here in the same turn of the event loop, before Node
 * accepts a connection.
 * @param {{ host: string, port: number }} address
 * @param {(descriptor: number, port: number) => Promise<number>} use
 * @returns {Promise<number>}
 */
function listen({ host, port }, use) {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.destroy());
    server.once("error", (error) => {
      const sentence = `${host}:${port} cannot be listened at (${errorCode(error)}).`;
      reject(new ScriptError(sentence, { code: EXIT_PORT }));
    });
    server.listen({ host, port, backlog: BACKLOG }, () => {
      const { port: own } = /** @type {import("node:net").AddressInfo} */ (server.address());
      const descriptor = /** @type {any} */ (server)._handle.fd;
      resolve(use(descriptor, own));
      server.close();
    });
  });
}
