// What commands need to know of a checked policy: upstreams, issuers, secrets.

import { isIP } from "node:net";

/**
 * @typedef {{ url?: string, binding?: string, targets?: { url: string }[], assertion?: { algorithm?: string } }} Upstream
 * @typedef {{ issuer: string, jwks_url?: string, audience?: string[], algorithms?: string[], events?: { authorization?: boolean }, introspection?: { url: string } }} Issuer
 * @typedef {{ issuers?: Record<string, Issuer>, upstreams?: Record<string, Upstream>, authorizers?: Record<string, { url: string }>, limits?: Record<string, object>, public_url?: string }} PolicyDocument
 */

/**
 * Returns the part of a variable's name that stands for a name of the policy.
 * @param {string} name
 */
export const suffixOf = (name) => name.toUpperCase().replaceAll("-", "_");

/** @param {string} name */
export const upstreamVariable = (name) => `UPSTREAM_${suffixOf(name)}_URL`;

/** @param {string} text */
export function isLoopback(text) {
  if (!URL.canParse(text)) return false;
  const { hostname } = new URL(text);
  return hostname === "localhost" || hostname === "[::1]" || (isIP(hostname) === 4 && hostname.startsWith("127."));
}

/**
 * Returns the secrets that a policy needs: assertion keys with their algorithm, and others, which only the other
 * side can give.
 * @param {PolicyDocument} policy
 * @returns {{ name: string, algorithm?: string }[]}
 */
export function secretsOf({ upstreams = {}, issuers = {} }) {
  return [
    ...Object.entries(upstreams).map(([name, { assertion }]) => ({
      name: `ASSERTION_KEYS_${suffixOf(name)}`,
      algorithm: assertion?.algorithm ?? "HS256",
    })),
    ...Object.entries(issuers)
      .filter(([, { events }]) => events?.authorization === true)
      .map(([name]) => ({ name: `EVENTS_AUTHORIZATION_${suffixOf(name)}` })),
    ...Object.entries(issuers)
      .filter(([, { introspection }]) => introspection !== undefined)
      .map(([name]) => ({ name: `INTROSPECTION_SECRET_${suffixOf(name)}` })),
  ];
}
