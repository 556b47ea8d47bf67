// Checks the assertion of the gateway: who calls, for this request only.

import { createRemoteJWKSet, errors, jwtVerify } from "jose";

/**
 * @import { IncomingMessage } from "node:http"
 * @import { JWTPayload } from "jose"
 * @typedef {Pick<IncomingMessage, "method" | "url" | "headers"> & { originalUrl?: string }} Request
 * @typedef {JWTPayload & { email?: string, roles?: string[], sid?: string, claims?: Record<string, unknown>, request_id?: string }} Identity
 */

const TYPE = "gateway+jwt";
const ISSUER = "portcullis";

// Seconds of clock difference that are tolerated.
const LEEWAY_S = 30;

const SECRET_BYTES = 32;

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
 * @returns {(request: Request) => Promise<Identity>}
 */
export function createVerifier({ audience, gateway, keys, algorithm = "ES256" }) {
  if (typeof audience !== "string" || audience === "") throw new TypeError("audience must be the upstream's name");
  const base = new URL(gateway);
  const refused = { "www-authenticate": `Gateway-Assertion realm="${base.origin}", error="gateway_required"` };
  const options = { typ: TYPE, issuer: ISSUER, audience, clockTolerance: LEEWAY_S, requiredClaims: ["exp", "iat"] };
  const verify =
    keys === undefined ? withPublicKeys(base, { ...options, algorithms: [algorithm] }) : withSecrets(keys, options);
  return async (request) => {
    const { "x-gateway-assertion": assertion } = request.headers;
    try {
      if (typeof assertion !== "string") throw new errors.JWTInvalid("no assertion");
      const { payload } = await verify(assertion);
      // An assertion is for one method and one path with its query. Express changes `url` in routers.
      if (payload.htm !== request.method || payload.htu !== (request.originalUrl ?? request.url))
        throw new errors.JWTInvalid("another request");
      return payload;
    } catch (error) {
      if (REFUSALS.test(/** @type {{ code?: string }} */ (error).code ?? "")) throw new AssertionError(401, refused);
      throw new AssertionError(503, { "retry-after": RETRY_AFTER_S });
    }
  };
}

/**
 * @param {URL} gateway
 * @param {import("jose").JWTVerifyOptions} options
 */
function withPublicKeys(gateway, options) {
  const keySet = createRemoteJWKSet(new URL("/_gateway/jwks.json", gateway));
  return (/** @type {string} */ assertion) => jwtVerify(assertion, keySet, options);
}

/**
 * @param {string} keys
 * @param {import("jose").JWTVerifyOptions} options
 */
function withSecrets(keys, options) {
  const secrets = new Map(
    keys.split(",").map((item) => {
      const [kid, text, ...more] = item.trim().split(":");
      const secret = Buffer.from(text ?? "", "base64url");
      if (kid === "" || more.length > 0 || secret.length !== SECRET_BYTES)
        throw new TypeError("keys must be kid:base64url-of-32-bytes, or two with a comma");
      return [kid, secret];
    }),
  );
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
