// Requests to the gateway's own endpoints with the operators' token. Only this page's memory keeps it: scripts of other pages
// can read a store. It is sent nowhere else.

// Milliseconds after which a poll counts as failed.
const TIMEOUT_MS = 15_000;

/** @type {string | undefined} */
let token;

export const isSignedIn = () => token !== undefined;

/** @param {string} value */
export function signIn(value) {
  token = value;
}

export function signOut() {
  token = undefined;
}

/** The gateway does not accept the token. */
export class Refused extends Error {}

/**
 * @param {string} path
 * @param {{ method?: string, headers?: Record<string, string>, answers?: number[] }} [options] `answers`: statuses that
 *   are no fault
 */
export async function request(path, { method = "GET", headers = {}, answers = [200] } = {}) {
  const response = await fetch(path, {
    method,
    headers: { ...headers, authorization: `Bearer ${token}` },
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  if (response.status === 401) throw new Refused("The gateway does not accept this token.");
  if (response.status === 429) throw new Error("Too many refused tokens from this address. Try again in a minute.");
  if (!answers.includes(response.status)) throw new Error(await faultOf(response));
  return response;
}

/** @param {Response} response */
async function faultOf(response) {
  const { detail } = await response.json().catch(() => ({}));
  return typeof detail === "string" ? `${detail} (${response.status})` : `The gateway answers ${response.status}`;
}
