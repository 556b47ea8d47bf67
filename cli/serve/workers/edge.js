// The main module of an edge process: the gateway's entry behind what the platform does for it. The platform
// states the client's address and writes the headers CF-*; here workerd states the peer.

import gateway from "./entry.js";
import { clientOf, parseNetwork } from "./client-address.js";

/** @import { Network } from "./client-address.js" */

const PLATFORM = /^(?:cf[-_]|true[-_]client[-_]ip$)/;

// A token, whose signature the gateway checks wherever it comes from.
const ACCESS_TOKEN = "cf-access-jwt-assertion";

/** @type {Network[] | undefined} */
let trusted;

export default {
  /**
   * @param {Request} request
   * @param {{ TRUSTED_PROXIES: string[] }} env
   * @param {ExecutionContext} context
   */
  fetch(request, env, context) {
    trusted ??= env.TRUSTED_PROXIES.map((text) => /** @type {Network} */ (parseNetwork(text)));
    return gateway.fetch(received(request, trusted), env, context);
  },
};

/**
 * Returns the request as the platform would hand it over.
 * @param {Request} request
 * @param {Network[]} networks
 */
function received(request, networks) {
  const { cf, headers } = request;
  // workerd states the peer itself: its sockets read no `cf` from a header.
  const peer = /** @type {any} */ (cf)?.clientIp;
  const { address, isTrusted } = clientOf(peer, headers.get("x-forwarded-for"), networks);
  const scheme = isTrusted ? headers.get("x-forwarded-proto") : null;
  const own = withScheme(request, scheme);
  for (const name of platformHeaders(headers)) own.headers.delete(name);
  if (address !== undefined) own.headers.set("cf-connecting-ip", address);
  return own;
}

/**
 * Returns a copy with headers that can be changed. A proxy that ends TLS states the client's scheme. A request made from
 * the text of the URL would lose the segments `.` and `..` of its path, which the gateway refuses.
 * @param {Request} request
 * @param {string | null} scheme
 */
function withScheme(request, scheme) {
  const own = new Request(request);
  if (scheme === "https" && request.url.startsWith("http:"))
    Object.defineProperty(own, "url", { value: `https:${request.url.slice("http:".length)}` });
  return own;
}

/**
 * Returns the names of the platform's headers, in any spelling that an upstream may take for one. A client
 * must not set them.
 * @param {Headers} headers
 */
function platformHeaders(headers) {
  /** @type {string[]} */
  const names = [];
  headers.forEach((_, name) => {
    if (PLATFORM.test(name) && name !== ACCESS_TOKEN) names.push(name);
  });
  return names;
}
