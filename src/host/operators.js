// The operators' page and what it reads: recent refusals, and the policies in KV. The pipeline decides who may ask. An
// answer is status, media type, text, and the content security policy of the page.

import { contentPolicy, page } from "./page.js";
import * as built from "./policy.js";

/** @typedef {[number, string, string, string?]} PagePart */

// Refusals that an isolate notes between two flushes: 60 KB. Older ones are in the log alone.
const NOTED = 100;

// Refusals that the object keeps, so that the page reads at most about 150 KB.
const KEPT = 500;

// Characters of a policy that the page compares. A longer one is for the command line.
const POLICY_CHARS = 1024 * 1024;

// Characters of a version, as /status shows it.
const VERSION_CHARS = 12;

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

const REFUSALS_PATH = "/refusals";

/** @type {string[]} */
const noted = [];

/**
 * Keeps the log line of a refusal until the next flush.
 * @param {string} line
 */
export function noteRefusal(line) {
  if (noted.length >= NOTED) noted.shift();
  noted.push(line);
}

/** Returns the noted refusals as JSON, if there are any, and forgets them. */
export function takeRefusals() {
  return noted.length === 0 ? undefined : JSON.stringify(noted.splice(0).map(refusalOf));
}

/**
 * Returns what the page shows of a log line: nothing that a client wrote, except a well-formed request id.
 * @param {string} line
 */
function refusalOf(line) {
  const { timestamp, request_id, trace_id, code, detail, status, method, route, upstream, duration_ms } =
    JSON.parse(line);
  const known = METHODS.includes(method) ? method : "OTHER";
  return { timestamp, request_id, trace_id, code, detail, status, method: known, route, upstream, duration_ms };
}

/**
 * Whether a request to the object of the metrics is about refusals.
 * @param {Request} request
 */
export const isAboutRefusals = (request) => new URL(request.url).pathname === REFUSALS_PATH;

/**
 * Adds refusals to those that the object keeps, or reads them, the newest first.
 * @param {Request} request
 * @param {SqlStorage} sql
 */
export async function keepRefusals(request, sql) {
  sql.exec("CREATE TABLE IF NOT EXISTS refusals (id INTEGER PRIMARY KEY, refusal TEXT NOT NULL)");
  if (request.method === "POST") {
    for (const refusal of JSON.parse(await request.text()))
      sql.exec("INSERT INTO refusals (refusal) VALUES (?)", JSON.stringify(refusal));
    sql.exec("DELETE FROM refusals WHERE id <= (SELECT max(id) FROM refusals) - ?", KEPT);
    return new Response(null, { status: 204 });
  }
  const rows = sql.exec("SELECT refusal FROM refusals ORDER BY id DESC").toArray();
  return new Response(`[${rows.map((row) => row.refusal).join(",")}]`);
}

/**
 * Answers a permitted request.
 * @param {Request} request
 * @param {any} env
 * @param {string} path
 * @param {string} requestId
 * @param {number} timeoutMs
 * @returns {Promise<PagePart>}
 */
export async function operate(request, env, path, requestId, timeoutMs) {
  /** @type {Promise<never>} */
  const late = scheduler.wait(timeoutMs).then(() => {
    throw new DOMException("the time is over", "TimeoutError");
  });
  const work = async () => {
    if (path === "/_gateway/refusals") return json(200, await readRefusals(env.METRICS));
    if (path === "/_gateway/policy") return json(200, JSON.stringify(await readPolicies(env)));
    if (path === "/_gateway/rollback") return rollBack(env, request.headers.get("if-match"), requestId);
    return /** @type {PagePart} */ ([200, "text/html; charset=utf-8", page, contentPolicy]);
  };
  return Promise.race([work(), late]);
}

/**
 * @param {number} status
 * @param {string} text
 * @returns {PagePart}
 */
const json = (status, text) => [status, "application/json", text];

/** @param {DurableObjectNamespace} namespace */
async function readRefusals(namespace) {
  const object = namespace.get(namespace.idFromName("sums"));
  const response = await object.fetch(`https://object${REFUSALS_PATH}`, { method: "GET" });
  if (!response.ok) throw new Error("the refusals cannot be read");
  return response.text();
}

/** @param {any} env */
async function readPolicies(env) {
  const { current, previous } = await pushedPolicies(env.KEYS);
  return {
    is_live: env.LIVE_POLICY === "true",
    built_in: { ...(await described(built.policy())), lines: built.lines?.() ?? null },
    pushed: await described(current),
    pushed_before: await described(previous),
  };
}

/** @param {KVNamespace} keys */
async function pushedPolicies(keys) {
  const [current, previous] = await Promise.all([keys.get("policy/current"), keys.get("policy/previous")]);
  return { current, previous };
}

/**
 * Returns a policy with its version; `policy` is null if it is too long to be compared, or no JSON.
 * @param {string | null} text
 */
async function described(text) {
  if (text === null) return null;
  const version = await versionOf(text);
  if (text.length > POLICY_CHARS) return { version, policy: null };
  try {
    return { version, policy: JSON.parse(text) };
  } catch {
    return { version, policy: null };
  }
}

/**
 * Returns the version of a policy's text, as `version_of` of the pipeline.
 * @param {string} text
 */
async function versionOf(text) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  const base64 = btoa(String.fromCharCode(...digest));
  return base64.replaceAll("+", "-").replaceAll("/", "_").slice(0, VERSION_CHARS);
}

/**
 * Does what `npm run policy:rollback` does, if the newest pushed policy is the one that the operator saw: swaps it with
 * the one before it, or deletes it if there is none. KV has no transactions and its reads may be a minute old: of this and a
 * push at the same time, the last write of each key counts.
 * @param {any} env
 * @param {string | null} seen
 * @param {string} requestId
 */
async function rollBack(env, seen, requestId) {
  if (env.LIVE_POLICY !== "true") return json(409, problem(409, "The deployment takes no pushed policies", requestId));
  const { current, previous } = await pushedPolicies(env.KEYS);
  if (current === null) return json(409, problem(409, "There is no pushed policy to roll back", requestId));
  if (seen !== `"${await versionOf(current)}"`)
    return json(412, problem(412, "The pushed policy is another one by now; look at it first", requestId));
  if (previous === null) {
    await env.KEYS.delete("policy/current");
  } else {
    await env.KEYS.put("policy/current", previous);
    await env.KEYS.put("policy/previous", current);
  }
  const version = await versionOf(previous ?? built.policy());
  const event = { service: "gateway", event_type: "gateway.policy_rollback", result: "success" };
  console.log(
    JSON.stringify({ ...event, detail: version, request_id: requestId, timestamp: new Date().toISOString() }),
  );
  return json(200, JSON.stringify({ version, origin: previous === null ? "built-in" : "pushed" }));
}

/**
 * @param {number} status
 * @param {string} detail
 * @param {string} request_id
 */
const problem = (status, detail, request_id) =>
  JSON.stringify({ status, title: "The policy is not rolled back", detail, error: detail, request_id });
