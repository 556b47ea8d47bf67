// Ports on loopback: reading them from settings, and finding out whether one is
// free before minutes are spent on a build.

import { createServer } from "node:net";

import { EXIT_PORT, EXIT_USAGE, ScriptError } from "./errors.js";

export const HOST = "127.0.0.1";

export const DEFAULT_PORTS = { edge: 8787, auth: 8083, users: 8081 };

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

// Binds a port and lets it go again. The port that the system chose, for 0.
export function probePort(port) {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host: HOST, port, exclusive: true }, () => {
      const chosen = server.address().port;
      server.close(() => resolve(chosen));
    });
  });
}

export async function claimPort(name, variable, port) {
  try {
    return await probePort(port);
  } catch (error) {
    const why = error.code === "EADDRINUSE" ? "is taken" : `cannot be opened (${error.code})`;
    throw new ScriptError(
      `Port ${port} for ${name} ${why}; stop what listens there, or set ${variable} to another port (0 takes any free one).`,
      { code: EXIT_PORT },
    );
  }
}
