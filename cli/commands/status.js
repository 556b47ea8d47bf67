// Shows what a running gateway says of itself.

import { readArguments, usage, usageError } from "../lib/arguments.js";
import { ScriptError, errorCode } from "../lib/errors.js";
import { parseJson } from "../lib/files.js";
import { isLoopback } from "../lib/policy-document.js";
import { HOST } from "../lib/ports.js";

/** @import { Context } from "../lib/project.js" */

export const summary = "shows the status of a running gateway";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "shows /ready and /status of http://127.0.0.1:8787"],
  ["https://api.example.com", "of another gateway"],
  ["--help", "shows this"],
])}

  METRICS_TOKEN   the gateway's secret; without it, a gateway that is not on this machine gives no details

The exit code is 1 if the gateway is not ready.`;

const DEFAULT_URL = `http://${HOST}:8787`;
const ASK_MS = 10_000;

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, { command, env }) {
  const { values, positionals } = readArguments(args, { command, most: 1 });
  if (values.help) return console.log(help(command));
  const [text = DEFAULT_URL] = positionals;
  // The token must not be sent in the clear.
  if (!URL.canParse(text) || !(new URL(text).protocol === "https:" || (text.startsWith("http:") && isLoopback(text))))
    throw usageError("The gateway's URL must be https://, or http:// on this machine.");
  const base = new URL(text).origin;
  /** @type {Record<string, string>} */
  const headers = env.METRICS_TOKEN ? { authorization: `Bearer ${env.METRICS_TOKEN}` } : {};
  const ready = await ask(`${base}/ready`, headers);
  const status = await ask(`${base}/status`, headers);
  console.log(JSON.stringify({ ...ready.body, status: status.body }, null, 2));
  return ready.status === 200 ? 0 : 1;
}

/**
 * @param {string} url
 * @param {Record<string, string>} headers
 */
async function ask(url, headers) {
  try {
    const response = await fetch(url, { headers, redirect: "manual", signal: AbortSignal.timeout(ASK_MS) });
    const text = await response.text();
    return { status: response.status, body: parseJson(text) ?? { answer: response.status } };
  } catch (error) {
    const { cause, name } = /** @type {Error} */ (error);
    throw new ScriptError(`${url} cannot be reached (${errorCode(cause) ?? name}); is the gateway running?`);
  }
}
