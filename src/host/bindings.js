// JavaScript for what would take several calls from Rust: reading all headers, a fetch with a time
// limit, reading a bounded body. Each function is one call from wasm. It makes no decision.

/**
 * Returns method, URL, and alternating names and values of headers, in lines. None of them can hold
 * a line break.
 * @param {Request} request
 */
export function readHead(request) {
  let lines = `${request.method}\n${request.url}`;
  // A callback costs the runtime less than the pairs of an iterator.
  request.headers.forEach((value, name) => {
    lines += `\n${name}\n${value}`;
  });
  return lines;
}

/**
 * Returns the client's country as the platform knows it; undefined if it does not. The header
 * CF-IPCountry may be the client's: the platform writes it only if a setting says so.
 * @param {Request} request
 */
export function country(request) {
  return request.cf?.country;
}

/**
 * Returns the SHA-256 of the client's certificate in hexadecimal, if the platform has verified it; undefined otherwise.
 * @param {Request} request
 */
export function clientCertificate(request) {
  const tls = /** @type {Partial<IncomingRequestCfPropertiesTLSClientAuth> | undefined} */ (request.cf?.tlsClientAuth);
  return tls?.certVerified === "SUCCESS" && tls.certRevoked !== "1" ? tls.certFingerprintSHA256 : undefined;
}

/**
 * Resumes a request when its promise settles; see poll_promise.rs.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} id
 * @param {(id: number, isFulfilled: boolean, value: unknown) => unknown} resume
 */
export function then(promise, id, resume) {
  return promise.then(
    (value) => resume(id, true, value),
    (error) => resume(id, false, error),
  );
}

/**
 * @param {number} millis
 * @returns {Promise<void>}
 */
export function sleep(millis) {
  return new Promise((resolve) => setTimeout(resolve, millis));
}

/**
 * Returns a body's bytes, or null if there are more than `maxBytes`. Throws if the body breaks off.
 * @param {ReadableStream<Uint8Array> | null} body
 * @param {number} maxBytes
 */
export async function readBounded(body, maxBytes) {
  const parts = [];
  let size = 0;
  for await (const part of body ?? []) {
    size += part.byteLength;
    // Leaving the loop cancels the rest.
    if (size > maxBytes) return null;
    parts.push(part);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.byteLength;
  }
  return bytes;
}

/**
 * Settles as `work` does, or rejects with a TimeoutError after `timeoutMs`, and then aborts `controller`.
 * @template T
 * @param {number} timeoutMs
 * @param {() => Promise<T>} work
 * @param {AbortController} [controller] for work that takes a signal
 * @returns {Promise<T>}
 */
export function inTime(timeoutMs, work, controller) {
  // One promise and callbacks cost less than a race. What throws rejects the promise.
  return new Promise((resolve, reject) => {
    const working = work();
    const timer = setTimeout(() => {
      const error = new DOMException("the time is over", "TimeoutError");
      reject(error);
      controller?.abort(error);
    }, timeoutMs);
    working.then(
      (value) => {
        clearTimeout(timer);
        resolve(value);
      },
      (error) => {
        clearTimeout(timer);
        reject(error);
      },
    );
  });
}

/**
 * Fetches a document. Returns status, bytes (null if there are more than `maxBytes`) and Cache-Control. Follows
 * no redirect: an issuer's open redirect must not choose our keys.
 * @param {string} url
 * @param {number} timeoutMs
 * @param {number} maxBytes
 */
export function fetchDocument(url, timeoutMs, maxBytes) {
  const controller = new AbortController();
  const { signal } = controller;
  const work = async () => {
    const headers = { accept: "application/jwk-set+json, application/json" };
    const response = await fetch(url, { redirect: "manual", signal, cache: "no-store", headers });
    const bytes = await readBounded(response.body, maxBytes);
    return [response.status, bytes, response.headers.get("cache-control")];
  };
  return inTime(timeoutMs, work, controller);
}

/**
 * Posts a text. Returns the answer's status.
 * @param {string} url
 * @param {Headers} headers
 * @param {string} body
 * @param {number} timeoutMs
 */
export function post(url, headers, body, timeoutMs) {
  const controller = new AbortController();
  const { signal } = controller;
  const work = async () => {
    const response = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal });
    await response.body?.cancel();
    return response.status;
  };
  return inTime(timeoutMs, work, controller);
}

/**
 * Posts a question to a policy decision point or, with `isToken`, an access token to an introspection endpoint (RFC 7662,
 * section 2.1). Returns the answer's status and bytes (null if there are more than `maxBytes`). Follows no redirect: another
 * server has nothing to say, and must not see the token.
 * @param {string} url
 * @param {string | undefined} authorization
 * @param {string} requestId
 * @param {string} text
 * @param {boolean} isToken
 * @param {number} timeoutMs
 * @param {number} maxBytes
 */
export function ask(url, authorization, requestId, text, isToken, timeoutMs, maxBytes) {
  const controller = new AbortController();
  const { signal } = controller;
  const work = async () => {
    /** @type {Record<string, string>} */
    const headers = { accept: "application/json", "x-request-id": requestId };
    if (!isToken) headers["content-type"] = "application/json";
    if (authorization !== undefined) headers.authorization = authorization;
    const body = isToken ? new URLSearchParams({ token: text, token_type_hint: "access_token" }) : text;
    const init = { method: "POST", headers, body, redirect: "manual", signal, cache: "no-store" };
    const response = await fetch(url, /** @type {RequestInit} */ (init));
    return [response.status, await readBounded(response.body, maxBytes)];
  };
  return inTime(timeoutMs, work, controller);
}

/**
 * Reads a text from a KV namespace, or null. A location may cache the answer for `cacheS` seconds.
 * @param {KVNamespace} store
 * @param {string} name
 * @param {number} cacheS
 * @param {number} timeoutMs
 */
export function readStore(store, name, cacheS, timeoutMs) {
  return inTime(timeoutMs, () => store.get(name, { type: "text", cacheTtl: cacheS }));
}

/**
 * Writes a text to a KV namespace, where it expires after `keepS` seconds.
 * @param {KVNamespace} store
 * @param {string} name
 * @param {string} text
 * @param {number} keepS
 * @param {number} timeoutMs
 */
export function writeStore(store, name, text, keepS, timeoutMs) {
  return inTime(timeoutMs, () => store.put(name, text, { expirationTtl: keepS }));
}

/**
 * Writes records to a KV namespace: lines of name, text, and the seconds after which one expires, 0 for never. Rejects
 * unless all are written.
 * @param {KVNamespace} store
 * @param {string} lines
 * @param {number} timeoutMs
 */
export function writeRecords(store, lines, timeoutMs) {
  const work = async () => {
    const writes = [];
    for (const [, name = "", text = "", keepS] of lines.matchAll(/(.*)\n(.*)\n(.*)\n/g)) {
      writes.push(store.put(name, text, keepS === "0" ? {} : { expirationTtl: Number(keepS) }));
    }
    await Promise.all(writes);
  };
  return inTime(timeoutMs, work);
}

/**
 * Sends a request to an object of a namespace: a POST with a body, or a GET. Returns status and body, which is
 * null if it has more than `maxBytes`.
 * @param {DurableObjectNamespace} namespace
 * @param {string} name
 * @param {string} path
 * @param {string | undefined} body
 * @param {number} timeoutMs
 * @param {number} maxBytes
 * @returns {Promise<[number, string | null]>}
 */
export function askObject(namespace, name, path, body, timeoutMs, maxBytes) {
  return inTime(timeoutMs, async () => {
    const method = body === undefined ? "GET" : "POST";
    const object = namespace.get(namespace.idFromName(name));
    const response = await object.fetch(`https://object${path}`, { method, body });
    const bytes = await readBounded(response.body, maxBytes);
    return [response.status, bytes && new TextDecoder().decode(bytes)];
  });
}

/**
 * Returns the key of a page of the revocation log in the cache of a location. It has the object's id, because
 * another gateway in the same zone has the same cache and another log, and the request's host, because the
 * platform requires a host of the zone. Returns undefined if a request's `Host` makes no URL: nothing is cached.
 * @param {Request} request
 * @param {DurableObjectNamespace} namespace
 * @param {string} name
 * @param {string} path
 */
export function pageKey(request, namespace, name, path) {
  const target = `/_gateway/revocations/${namespace.idFromName(name)}${path}`;
  return URL.canParse(target, request.url) ? new URL(target, request.url).href : undefined;
}

// Clients are not answered from a named cache.
const openPages = () => caches.open("revocations");

/**
 * Reads a page of the revocation log from the cache. Returns its text, or undefined; a cache that fails has no
 * page.
 * @param {string} key
 * @param {number} timeoutMs
 */
export function readCachedPage(key, timeoutMs) {
  const work = async () => (await (await openPages()).match(key))?.text();
  return inTime(timeoutMs, work).catch(() => undefined);
}

/**
 * Caches a page of the revocation log for `keepS` seconds, after the answer.
 * @param {string} key
 * @param {ExecutionContext} context
 * @param {string} text
 * @param {number} keepS
 * @param {number} timeoutMs
 */
export function cachePage(key, context, text, keepS, timeoutMs) {
  const headers = { "content-type": "application/json", "cache-control": `max-age=${keepS}` };
  const work = async () => (await openPages()).put(key, new Response(text, { headers }));
  context.waitUntil(inTime(timeoutMs, work).catch(() => {}));
}

/**
 * Parameters of each algorithm for the runtime (RFC 7518, section 3; RFC 8037).
 * @type {Record<string, any>}
 */
const SCHEMES = {
  RS256: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-256" },
  RS384: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-384" },
  RS512: { name: "RSASSA-PKCS1-v1_5", hash: "SHA-512" },
  PS256: { name: "RSA-PSS", hash: "SHA-256", saltLength: 32 },
  PS384: { name: "RSA-PSS", hash: "SHA-384", saltLength: 48 },
  PS512: { name: "RSA-PSS", hash: "SHA-512", saltLength: 64 },
  ES256: { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" },
  ES384: { name: "ECDSA", namedCurve: "P-384", hash: "SHA-384" },
  ES512: { name: "ECDSA", namedCurve: "P-521", hash: "SHA-512" },
  EdDSA: { name: "Ed25519" },
};

/**
 * A key with what the runtime must know to use it. It holds no I/O of a request, so requests can share it.
 * @typedef {[any, CryptoKey]} ImportedKey
 */

/**
 * Imports a key. `jwk` is the text of a JWK with the defining members only: runtimes differ in how an `alg` in it must
 * be spelled.
 * @param {string} algorithm
 * @param {string} jwk
 * @param {"sign" | "verify"} usage
 * @returns {Promise<ImportedKey>}
 */
export async function importKey(algorithm, jwk, usage) {
  const scheme = SCHEMES[algorithm];
  return [scheme, await crypto.subtle.importKey("jwk", JSON.parse(jwk), scheme, false, [usage])];
}

/**
 * Signs with the runtime's WebCrypto. Needs no time limit, as `verify`.
 * @param {ImportedKey} key
 * @param {Uint8Array} input
 */
export function sign([scheme, key], input) {
  return crypto.subtle.sign(scheme, key, input);
}

/**
 * Verifies a signature with the runtime's WebCrypto. Needs no time limit: the runtime computes before it returns the
 * promise.
 * @param {ImportedKey} key
 * @param {Uint8Array} signature
 * @param {Uint8Array} input
 */
export function verify([scheme, key], signature, input) {
  return crypto.subtle.verify(scheme, key, signature, input);
}

/**
 * Counts a request under this key. Returns whether it is within the limit.
 * @param {RateLimit} limiter
 * @param {string} key
 * @param {number} timeoutMs
 */
export function limit(limiter, key, timeoutMs) {
  return inTime(timeoutMs, () => limiter.limit({ key }).then(({ success }) => success));
}
