// Checks the assertion of the gateway: who calls, for this request only.

import { createRemoteJWKSet, errors, jwtVerify } from "jose";

/**
 * @import { IncomingMessage } from "node:http"
 * @import { JWTPayload } from "jose"
 * @typedef {Pick<IncomingMessage, "method" | "url" | "headers"> & { originalUrl?: string }} NodeRequest
 * @typedef {Pick<Request, "method" | "url" | "headers">} FetchRequest
 * @typedef {JWTPayload & { email?: string, roles?: string[], sid?: string, claims?: Record<string, unknown>, request_id?: string }} Identity
 */

const HEADER = "x-gateway-assertion";
const TYPE = "gateway+jwt";
const ISSUER = "portcullis";

// Seconds of clock difference that are tolerated.
const LEEWAY_S = 30;

// Longest time between `iat` and `exp`, in seconds: the gateway writes it.
const LIFETIME_S = 30;

// Characters of an assertion: fits the identity of a token of 16 KB and the longest path and query.
const ASSERTION_CHARS = 48 * 1024;

// A `kid`, and the base64url of 32 bytes.
const SECRET = /^([^:]+):([A-Za-z0-9_-]{43})$/;

// Secrets that are valid at once, for rotation.
const SECRETS = 2;

// Bounds of the gateway's public keys, in milliseconds: how long they are used; the pause between two fetches for unknown
// kids, which anyone can invent; one fetch.
const KEYS = { cacheMaxAge: 300_000, cooldownDuration: 30_000, timeoutDuration: 2000 };

// Seconds after which a client may try again when the gateway's keys cannot be fetched.
const RETRY_AFTER_S = "2";

// Faults of the assertion; any other is one of the connection to the gateway.
const REFUSALS = /^ERR_(JWT_|JWS_|JWKS_NO_MATCHING_KEY|JOSE_ALG_NOT_ALLOWED|JOSE_NOT_SUPPORTED)/;

/** A request without a valid assertion: `status` and `headers` are the answer. It holds nothing of the request. */
export class AssertionError extends Error {
  name = "AssertionError";

  /**
   * @param {number} status 401: refused; 503: the gateway's keys cannot be fetched
   * @param {Record<string, string>} headers
   */
  constructor(status, headers) {
    super(status === 401 ? "no valid assertion" : "the gateway's keys cannot be fetched");
    this.status = status;
    this.headers = headers;
  }
}

/**
 * Returns a function that resolves with the identity of a request's caller, or rejects with an AssertionError. `keys`
 * is the secret ASSERTION_KEYS_<UPSTREAM>; without it, the public keys of `gateway` are fetched.
 * @param {{ audience: string, gateway: string, keys?: string, algorithm?: "ES256" | "EdDSA" }} options `audience` is the
 * upstream's name in the policy, `gateway` the gateway's URL
 * @returns {(request: NodeRequest | FetchRequest) => Promise<Identity>}
 */
export function createVerifier({ audience, gateway, keys, algorithm = "ES256" }) {
  if (typeof audience !== "string" || audience === "") throw new TypeError("audience must be the upstream's name");
  const base = new URL(gateway);
  const refused = { "www-authenticate": `Gateway-Assertion realm="${base.origin}", error="gateway_required"` };
  const options = {
    ...{ typ: TYPE, issuer: ISSUER, audience, clockTolerance: LEEWAY_S, requiredClaims: ["exp", "iat"] },
    // Without it, jose accepts an `iat` in the future.
    maxTokenAge: LIFETIME_S,
  };
  const verify =
    keys === undefined ? withPublicKeys(base, { ...options, algorithms: [algorithm] }) : withSecrets(keys, options);
  return async (request) => {
    const { assertion, target } = read(request);
    try {
      if (typeof assertion !== "string" || assertion.length > ASSERTION_CHARS)
        throw new errors.JWTInvalid("no assertion");
      const { payload } = await verify(assertion);
      const lifetime = Number(payload.exp) - Number(payload.iat);
      if (lifetime < 0 || lifetime > LIFETIME_S) throw new errors.JWTInvalid("not a time of the gateway");
      // An assertion is for one method and one path with its query.
      if (payload.htm !== request.method || payload.htu !== target) throw new errors.JWTInvalid("another request");
      return payload;
    } catch (error) {
      if (REFUSALS.test(/** @type {{ code?: string }} */ (error).code ?? "")) throw new AssertionError(401, refused);
      throw new AssertionError(503, { "retry-after": RETRY_AFTER_S });
    }
  };
}

/**
 * Returns the assertion, and the path with its query as it was sent. The URL of a Worker's request has an origin before it.
 * @param {NodeRequest | FetchRequest} request
 */
function read(request) {
  if (isFetch(request)) {
    const { url, headers } = request;
    return { assertion: headers.get(HEADER), target: url.slice(url.indexOf("/", url.indexOf("://") + 3)) };
  }
  // Express changes `url` in routers.
  return { assertion: request.headers[HEADER], target: request.originalUrl ?? request.url };
}

/**
 * @param {NodeRequest | FetchRequest} request
 * @returns {request is FetchRequest}
 */
const isFetch = (request) => typeof request.headers.get === "function";

/**
 * @param {URL} gateway
 * @param {import("jose").JWTVerifyOptions} options
 */
function withPublicKeys(gateway, options) {
  const keySet = createRemoteJWKSet(new URL("/_gateway/jwks.json", gateway), KEYS);
  /** @type {import("jose").JWTVerifyGetKey} */
  const keyOf = (header, token) => {
    // Without a kid, jose would use any key of the algorithm. No other token causes a fetch.
    if (header?.kid === undefined || header.typ !== TYPE) throw new errors.JWKSNoMatchingKey();
    return keySet(header, token);
  };
  return (/** @type {string} */ assertion) => jwtVerify(assertion, keyOf, options);
}

/**
 * @param {string} keys
 * @param {import("jose").JWTVerifyOptions} options
 */
function withSecrets(keys, options) {
  const fault = () => new TypeError("keys must be kid:base64url-of-32-bytes, or two with a comma");
  const items = keys.split(",");
  const secrets = new Map(
    items.map((item) => {
      const [, kid, text] = SECRET.exec(item.trim()) ?? [];
      if (text === undefined) throw fault();
      return [kid, Buffer.from(text, "base64url")];
    }),
  );
  if (items.length > SECRETS || secrets.size < items.length) throw fault();
  return (/** @type {string} */ assertion) =>
    jwtVerify(
      assertion,
      ({ kid }) => {
        const secret = secrets.get(kid ?? "");
        if (secret === undefined) throw new errors.JWKSNoMatchingKey();
        return secret;
      },
      { ...options, algorithms: ["HS256"] },
    );
}
