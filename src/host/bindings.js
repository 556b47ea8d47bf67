// JavaScript for what would take several calls from Rust: reading all headers, a fetch with a time
// limit, reading a bounded body. Each function is one call from wasm. It makes no decision.

/**
 * Imported keys by algorithm and RFC 7638 thumbprint. A CryptoKey holds no I/O of a request, so
 * requests can share it. Bounded, because issuers have a few keys each.
 * @type {Map<string, CryptoKey>}
 */
const imported = new Map();
const IMPORTED_MAX = 256;

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
 * Resumes a request when its promise settles; see poll_promise.rs.
 * @template T
 * @param {Promise<T>} promise
 * @param {number} index
 * @param {number} turn
 * @param {(index: number, turn: number, isFulfilled: boolean, value: unknown) => unknown} resume
 */
export function then(promise, index, turn, resume) {
  return promise.then(
    (value) => resume(index, turn, true, value),
    (error) => resume(index, turn, false, error),
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
async function readBounded(body, maxBytes) {
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
 * Reads a request's body. Returns its bytes or a fault code.
 * @param {Request} request
 * @param {number} maxBytes
 * @param {number} timeoutMs
 * @returns {Promise<Uint8Array | "too_large" | "client_gone">}
 */
export async function readBody(request, maxBytes, timeoutMs) {
  try {
    return (await inTime(timeoutMs, readBounded(request.body, maxBytes))) ?? "too_large";
  } catch {
    return "client_gone";
  }
}

/**
 * Fetches a document. Returns its bytes and Cache-Control, or a fault code. Follows no redirect:
 * an issuer's open redirect must not choose our keys. Reads at most `maxBytes`.
 * @param {string} url
 * @param {number} timeoutMs
 * @param {number} maxBytes
 * @returns {Promise<[Uint8Array, string | undefined] | string>}
 */
export async function fetchDocument(url, timeoutMs, maxBytes) {
  const controller = new AbortController();
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    controller.abort();
  }, timeoutMs);
  try {
    const response = await fetch(url, {
      redirect: "manual",
      signal: controller.signal,
      cache: "no-store",
      headers: { accept: "application/jwk-set+json, application/json" },
    });
    if (response.status !== 200) {
      await response.body?.cancel();
      return response.status >= 300 && response.status < 400 ? "redirected" : "bad_status";
    }
    const bytes = await readBounded(response.body, maxBytes);
    return bytes === null ? "too_large" : [bytes, response.headers.get("cache-control") ?? undefined];
  } catch {
    return late ? "timed_out" : "unreachable";
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Sends spans to a collector. Returns a fault code, or "". `given` holds the exporter's headers as
 * comma-separated name=value pairs with percent-encoded values (OpenTelemetry, after W3C Baggage).
 * @param {string} url
 * @param {string} given
 * @param {string} body
 * @param {number} timeoutMs
 */
export async function sendSpans(url, given, body, timeoutMs) {
  let headers;
  try {
    const pairs = given.split(",").filter((pair) => pair.trim() !== "");
    headers = new Headers(
      pairs.map((pair) => {
        const at = pair.indexOf("=");
        // Without "=" the item is no pair; the secret must not be cut.
        if (at < 1) throw new Error("no name");
        return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
      }),
    );
  } catch {
    return "bad_setting";
  }
  headers.set("content-type", "application/json");
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal });
    await response.body?.cancel();
    return response.ok ? "" : "bad_status";
  } catch {
    return "unreachable";
  }
}

/**
 * Reads a text from a KV namespace, or null. A location may cache the answer for `cacheS` seconds.
 * @param {KVNamespace} store
 * @param {string} name
 * @param {number} cacheS
 * @param {number} timeoutMs
 */
export async function readStore(store, name, cacheS, timeoutMs) {
  return inTime(timeoutMs, store.get(name, { type: "text", cacheTtl: cacheS }));
}

/**
 * Writes a text to a KV namespace, where it expires after `keepS` seconds.
 * @param {KVNamespace} store
 * @param {string} name
 * @param {string} text
 * @param {number} keepS
 * @param {number} timeoutMs
 */
export async function writeStore(store, name, text, keepS, timeoutMs) {
  await inTime(timeoutMs, store.put(name, text, { expirationTtl: keepS }));
}

/**
 * Resolves as `promise` does, or rejects after `timeoutMs`.
 * @template T
 * @param {number} timeoutMs
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
async function inTime(timeoutMs, promise) {
  /** @type {number | null} */
  let timer = null;
  /** @type {Promise<never>} */
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("late")), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Returns the only object of a namespace that this Worker uses.
 * @param {DurableObjectNamespace} namespace
 * @param {string} name
 */
const objectOf = (namespace, name) => namespace.get(namespace.idFromName(name));
const LOG = "log";

/**
 * Sends a GET request to an object. Returns the body of its answer, or a fault code.
 * @param {DurableObjectStub} object
 * @param {string} path
 * @param {number} maxBytes
 */
async function ask(object, path, maxBytes) {
  const response = await object.fetch(`https://object${path}`);
  const bytes = await readBounded(response.body, maxBytes);
  return response.status !== 200 || bytes === null ? "bad_status" : bytes;
}

/**
 * Sends a GET request to an object. Returns the body of its answer as text in a list, or a fault code.
 * @param {DurableObjectNamespace} namespace
 * @param {string} name
 * @param {string} path
 * @param {number} timeoutMs
 * @param {number} maxBytes
 * @returns {Promise<[string] | string>}
 */
export async function askObject(namespace, name, path, timeoutMs, maxBytes) {
  return within(timeoutMs, async () => {
    const bytes = await ask(objectOf(namespace, name), path, maxBytes);
    return typeof bytes === "string" ? bytes : [new TextDecoder().decode(bytes)];
  });
}

/**
 * Posts a body to an object. Returns true if the object has stored it.
 * @param {DurableObjectNamespace} namespace
 * @param {string} name
 * @param {string} path
 * @param {string} body
 * @param {number} timeoutMs
 */
export async function tellObject(namespace, name, path, body, timeoutMs) {
  const work = async () => {
    const response = await objectOf(namespace, name).fetch(`https://object${path}`, { method: "POST", body });
    await response.body?.cancel();
    return response.status === 204;
  };
  return (await within(timeoutMs, work)) === true;
}

/**
 * Resolves a reference against a base URL as browsers do. Returns undefined if the result is no URL.
 * @param {string} reference
 * @param {string} base
 */
export function resolve(reference, base) {
  try {
    return new URL(reference, base).href;
  } catch {
    return undefined;
  }
}

// The cache of a location for pages of the revocation log. The key has the object's id, because
// another gateway in the same zone has the same cache and another log, and the request's host,
// because the platform requires a host of the zone. Clients are not answered from a named cache.
const LOG_CACHE = "revocations";
/**
 * Returns the cache key of a page of the log, or undefined if the request's Host makes no URL.
 * @param {Request} request
 * @param {DurableObjectNamespace} namespace
 * @param {string} path
 */
const keyOf = (request, namespace, path) =>
  resolve(`/_gateway/revocations/${namespace.idFromName(LOG)}${path}`, request.url);

/**
 * Reads a page of the revocation log. Returns its text and whether it came from the cache, or a fault
 * code. With `keepS` above 0, the page is cached for that many seconds. A cache that fails is skipped.
 * @param {Request} request
 * @param {ExecutionContext} context
 * @param {DurableObjectNamespace} namespace
 * @param {string} path
 * @param {boolean} mayBeKept
 * @param {number} keepS
 * @param {number} timeoutMs
 * @param {number} maxBytes
 * @returns {Promise<[string, boolean] | string>}
 */
export async function readLog(request, context, namespace, path, mayBeKept, keepS, timeoutMs, maxBytes) {
  /** @returns {Promise<[string, boolean] | string>} */
  const work = async () => {
    const key = keyOf(request, namespace, path);
    const mayKeep = keepS > 0 && key !== undefined;
    const cache = mayKeep ? await caches.open(LOG_CACHE).catch(() => undefined) : undefined;
    if (mayBeKept) {
      const kept = await cache?.match(/** @type {string} */ (key)).catch(() => undefined);
      if (kept !== undefined) return [await kept.text(), true];
    }
    const bytes = await ask(objectOf(namespace, LOG), path, maxBytes);
    if (typeof bytes === "string") return bytes;
    if (cache !== undefined) {
      const headers = { "content-type": "application/json", "cache-control": `max-age=${keepS}` };
      // Stored after the answer.
      context.waitUntil(cache.put(/** @type {string} */ (key), new Response(bytes, { headers })).catch(() => {}));
    }
    return [new TextDecoder().decode(bytes), false];
  };
  return within(timeoutMs, work);
}

/**
 * Resolves with what `work` resolves with, or with a fault code.
 * @template T
 * @param {number} timeoutMs
 * @param {() => Promise<T>} work
 * @returns {Promise<T | "timed_out" | "unreachable">}
 */
async function within(timeoutMs, work) {
  /** @type {number | null} */
  let timer = null;
  /** @type {Promise<"timed_out">} */
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve("timed_out"), timeoutMs);
  });
  try {
    return await Promise.race([work(), late]);
  } catch {
    return "unreachable";
  } finally {
    clearTimeout(timer);
  }
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

// Bytes of an Ed25519 signature (RFC 8032, section 5.1.6).
const ED25519_BYTES = 64;

/**
 * Verifies a signature with the runtime's WebCrypto. `jwk` is the text of a JWK with the defining
 * members only: runtimes differ in how an `alg` in it must be spelled.
 * @param {string} algorithm
 * @param {string} thumbprint
 * @param {string} jwk
 * @param {Uint8Array} signature
 * @param {Uint8Array} input
 */
export async function verify(algorithm, thumbprint, jwk, signature, input) {
  const scheme = SCHEMES[algorithm];
  // The runtime throws at an Ed25519 signature of another length. A bad signature must not look like a
  // fault of the runtime.
  if (algorithm === "EdDSA" && signature.byteLength !== ED25519_BYTES) return false;
  const id = `${algorithm} ${thumbprint}`;
  let key = imported.get(id);
  if (key === undefined) {
    key = await crypto.subtle.importKey("jwk", JSON.parse(jwk), scheme, false, ["verify"]);
    if (imported.size >= IMPORTED_MAX) imported.clear();
    imported.set(id, key);
  }
  return crypto.subtle.verify(scheme, key, signature, input);
}

/**
 * Counts a request under this key. Returns whether it is within the limit.
 * @param {RateLimit} limiter
 * @param {string} key
 */
export async function limit(limiter, key) {
  return (await limiter.limit({ key })).success;
}
