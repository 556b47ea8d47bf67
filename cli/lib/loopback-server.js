// HTTP servers of the development tools. They answer this machine only: a page of another site cannot use them by
// a name that it points to 127.0.0.1 (DNS rebinding), nor by a form.

import { createServer } from "node:http";

import { EXIT_PORT, EXIT_USAGE, ScriptError, errorCode } from "./errors.js";
import { isLoopback } from "./policy-document.js";

/**
 * @import { IncomingMessage, Server } from "node:http"
 * @typedef {{ status?: number, type?: string, headers?: Record<string, string>, body: string }} Reply
 */

// Bytes of a request's body: a form of the login page.
const BODY_BYTES = 16 * 1024;

// Milliseconds for a whole request.
const REQUEST_MS = 10_000;

// Open connections: a browser, the gateway and some commands.
const CONNECTIONS = 64;

/**
 * Listens at a loopback URL. Resolves with the server.
 * @param {{ what: string, url: string, settings: string }} place for errors: `what` is such as "the development issuer",
 *   and `settings` are those of the policy that have the URL
 * @param {(request: IncomingMessage, body: Buffer) => Reply | Promise<Reply>} answer
 * @returns {Promise<Server>}
 */
export async function listenOnLoopback({ what, url, settings }, answer) {
  const { protocol, hostname, port } = new URL(url);
  if (protocol !== "http:" || !isLoopback(url))
    throw new ScriptError(`${what} runs on loopback only; its URL must be http://127.0.0.1 with a port, not ${url}.`, {
      code: EXIT_USAGE,
    });
  const server = createServer({ requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS }, (request, response) => {
    reply(request, answer).then(
      ({ status = 200, type = "application/json", headers = {}, body }) => {
        response
          .writeHead(status, {
            "content-type": type,
            "cache-control": "no-store",
            "x-content-type-options": "nosniff",
            "content-length": Buffer.byteLength(body),
            ...headers,
          })
          .end(body);
      },
      () => response.writeHead(500).end(),
    );
  });
  server.maxConnections = CONNECTIONS;
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: hostname.replace(/^\[|\]$/g, ""), port: Number(port || 80), exclusive: true }, () =>
      resolve(undefined),
    );
  }).catch((error) => {
    const why = errorCode(error) === "EADDRINUSE" ? "is taken" : `cannot be opened (${errorCode(error)})`;
    throw new ScriptError(
      `Port ${port} for ${what} ${why}; stop what listens there, or change the port in the policy (${settings}).`,
      { code: EXIT_PORT },
    );
  });
  return server;
}

/**
 * @param {IncomingMessage} request
 * @param {(request: IncomingMessage, body: Buffer) => Reply | Promise<Reply>} answer
 * @returns {Promise<Reply>}
 */
async function reply(request, answer) {
  const { host = "", origin, "sec-fetch-site": site } = request.headers;
  if (!isLoopback(`http://${host}`)) return refusal(421, "This is a development tool of this machine only.");
  const isForeign = site !== undefined && site !== "same-origin" && site !== "none";
  if (request.method !== "GET" && (isForeign || (origin !== undefined && origin !== `http://${host}`)))
    return refusal(403, "Another site's page sent this request.");
  const body = await readBody(request);
  return body === undefined ? refusal(413, "The body is too long.") : answer(request, body);
}

/**
 * @param {number} status
 * @param {string} text
 * @returns {Reply}
 */
export const refusal = (status, text) => ({ status, type: "text/plain; charset=utf-8", body: `${text}\n` });

/** @param {IncomingMessage} request */
async function readBody(request) {
  /** @type {Buffer[]} */
  const parts = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > BODY_BYTES) return undefined;
    parts.push(part);
  }
  return Buffer.concat(parts);
}
