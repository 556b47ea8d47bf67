// Fetches the key set of the issuer that a token names, from where the policy says.

import { isIP } from "node:net";

/** @import { Output } from "./policy-tool.js" */
/** @typedef {{ keys?: string, keys_fault?: string }} Keys the key set, or why there is none */

const FETCH_MS = 3000;

/**
 * @param {(request: object) => Output} run
 * @param {{ policy: object, token: string, env?: NodeJS.ProcessEnv }} options
 * @returns {Promise<Keys>}
 */
export async function fetchKeys(run, { policy, token, env = process.env }) {
  const { out, errors } = run({ command: { key_source: { token } }, policy });
  // Whatever is wrong with the policy, `explain` says.
  const source = errors.length === 0 ? JSON.parse(out) : null;
  if (source === null) return {};
  if (source.keys !== undefined) return { keys: source.keys };
  try {
    if (source.discovery === undefined) return { keys: await fetchText(source.url ?? upstreamUrl(source, env)) };
    const document = await fetchText(source.discovery);
    const found = run({ command: { discovered_url: { token, document } }, policy });
    if (found.errors.length > 0) return { keys_fault: `${source.discovery}: ${found.errors[0]}` };
    return { keys: await fetchText(found.out) };
  } catch (error) {
    return { keys_fault: /** @type {Error} */ (error).message };
  }
}

/**
 * @param {{ upstream: string, base: string, path: string }} source
 * @param {NodeJS.ProcessEnv} env
 */
function upstreamUrl({ upstream, base, path }, env) {
  const variable = `UPSTREAM_${upstream.toUpperCase().replaceAll("-", "_")}_URL`;
  const [first] = (env[variable] || base).split(",");
  return `${first.trim().replace(/\/+$/, "")}${path}`;
}

/** @param {string} url */
async function fetchText(url) {
  if (!isAllowed(url)) throw new Error(`${url} is not fetched: it must be https://, or http:// on loopback`);
  try {
    const response = await fetch(url, { redirect: "error", signal: AbortSignal.timeout(FETCH_MS) });
    if (response.ok) return await response.text();
    throw new Error(`status ${response.status}`);
  } catch (error) {
    const { cause, message } = /** @type {Error & { cause?: { code?: string } }} */ (error);
    throw new Error(`${url} cannot be fetched (${cause?.code ?? message})`, { cause: error });
  }
}

/**
 * Keys that come over plain HTTP can be replaced on the way, so that is for loopback only.
 * @param {string} text
 */
function isAllowed(text) {
  if (!URL.canParse(text)) return false;
  const { protocol, hostname } = new URL(text);
  const isLoopback =
    hostname === "localhost" || hostname === "[::1]" || (isIP(hostname) === 4 && hostname.startsWith("127."));
  return protocol === "https:" || (protocol === "http:" && isLoopback);
}
