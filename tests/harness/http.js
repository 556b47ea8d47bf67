// Sends requests unchanged: node:http without normalising the path or merging headers, and raw bytes for
// input that is not HTTP.

import { Agent, request } from "node:http";
import { connect } from "node:net";

// Ends a request without an answer.
const ANSWER_MS = 60_000;

const agent = new Agent({ keepAlive: false });

/**
 * @typedef {object} Request
 * @property {string} [method]
 * @property {string} [path]
 * @property {Record<string, any> | [string, string][]} [headers] by name, or pairs in which names may repeat
 * @property {any} [body] text, bytes or a stream
 * @property {unknown} [json]
 * @property {AbortSignal} [signal]
 * @property {string} [localAddress] that of the connection
 */

/**
 * Sends a request. Resolves with { status, headers, rawHeaders, body, bytes, json() }.
 * @param {string} base
 * @param {Request} [request]
 */
export function send(base, { method = "GET", path = "/", headers = {}, body, json, signal, localAddress } = {}) {
  const { hostname, port } = new URL(base);
  const pairs = Array.isArray(headers) ? headers.map(([name, value]) => [name, value]) : Object.entries(headers);
  const names = new Set(pairs.map(([name]) => name.toLowerCase()));
  let content = body;
  if (json !== undefined) {
    content = JSON.stringify(json);
    if (!names.has("content-type")) pairs.push(["content-type", "application/json"]);
  }
  if (!names.has("host")) pairs.unshift(["host", `${hostname}:${port}`]);
  const isStream = content !== undefined && typeof content.pipe === "function";
  if (content !== undefined && !isStream && !names.has("content-length") && !names.has("transfer-encoding")) {
    pairs.push(["content-length", String(Buffer.byteLength(content))]);
  }
  if (isStream && !names.has("transfer-encoding") && !names.has("content-length"))
    pairs.push(["transfer-encoding", "chunked"]);
  return new Promise((resolve, reject) => {
    const sent = request({
      agent,
      hostname,
      port,
      method,
      path,
      headers: pairs.flat(),
      signal,
      localAddress,
      timeout: ANSWER_MS,
    });
    sent.on("timeout", () => sent.destroy(new Error(`no answer to ${method} ${path} in ${ANSWER_MS / 1000} s`)));
    sent.on("error", reject);
    sent.on("response", (response) => {
      const parts = [];
      response.on("data", (part) => parts.push(part));
      response.on("error", reject);
      response.on("end", () => {
        const bytes = Buffer.concat(parts);
        const text = bytes.toString("utf8");
        resolve({
          status: response.statusCode,
          headers: response.headers,
          rawHeaders: response.rawHeaders,
          bytes,
          body: text,
          json: () => JSON.parse(text),
        });
      });
    });
    if (isStream) content.pipe(sent);
    else sent.end(content);
  });
}

// Sends bytes unchanged. Resolves with everything received, as latin-1 text.
export function sendBytes(base, bytes) {
  const { hostname, port } = new URL(base);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) });
    let answer = "";
    socket.setEncoding("latin1").setTimeout(ANSWER_MS, () => socket.destroy(new Error("no answer")));
    socket.on("data", (text) => (answer += text));
    socket.on("error", (error) => (answer === "" ? reject(error) : resolve(answer)));
    socket.on("close", () => resolve(answer));
    socket.end(bytes);
  });
}
