// Ports on the loopback interface: reads them from settings, and checks that a port is free before
// the build begins.

import { createServer } from "node:net";

import { EXIT_PORT, EXIT_USAGE, ScriptError, errorCode } from "./errors.js";

/** @import { AddressInfo } from "node:net" */

export const HOST = "127.0.0.1";

/** @type {Record<string, number>} */
export const DEFAULT_PORTS = { edge: 8787, auth: 8083, users: 8081 };

/**
 * @param {NodeJS.ProcessEnv} env
 * @param {string} variable
 * @param {number} fallback
 */
export function portSetting(env, variable, fallback) {
  const text = env[variable];
  if (text === undefined || text === "") return fallback;
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65535) {
    throw new ScriptError(`${variable} is ${JSON.stringify(text)}; set it to a port from 0 (any free one) to 65535.`, {
      code: EXIT_USAGE,
    });
  }
  return port;
}

/**
 * Binds a port and releases it. Returns the port that the system chose if `port` is 0.
 * @param {number} port
 * @returns {Promise<number>}
 */
export function probePort(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: HOST, port, exclusive: true }, () => {
      const { port: chosen } = /** @type {AddressInfo} */ (server.address());
      server.close(() => resolve(chosen));
    });
  });
}

/**
 * @param {string} name
 * @param {string} variable
 * @param {number} port
 */
export async function claimPort(name, variable, port) {
  try {
    return await probePort(port);
  } catch (error) {
    const why = errorCode(error) === "EADDRINUSE" ? "is taken" : `cannot be opened (${errorCode(error)})`;
    throw new ScriptError(
      `Port ${port} for ${name} ${why}; stop what listens there, or set ${variable} to another port (0 takes any free one).`,
      { code: EXIT_PORT },
    );
  }
}
