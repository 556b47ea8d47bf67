// The JavaScript that the rim needs: each function is one crossing from wasm,
// and does only what costs several crossings from Rust (reading all headers,
// racing a fetch against a timer, reading a bounded body). Decides nothing.

// Imported keys by algorithm and RFC 7638 thumbprint. A CryptoKey holds no request's I/O, so
// requests may share it. Bounded: issuers have a few keys each.
const imported = new Map();
const IMPORTED_MAX = 256;

// Method, URL and headers, a line each: header names and values alternate.
// None of them can hold a line break.
export function readHead(request) {
  let lines = `${request.method}\n${request.url}`;
  // The runtime calls back for less than it makes a pair for an iterator.
  request.headers.forEach((value, name) => {
    lines += `\n${name}\n${value}`;
  });
  return lines;
}

// Goes on with a request when what it waits for has come; see turns.rs.
export function then(promise, index, turn, resume) {
  return promise.then(
    (value) => resume(index, turn, true, value),
    (error) => resume(index, turn, false, error),
  );
}

export function sleep(millis) {
  return new Promise((resolve) => setTimeout(resolve, millis));
}

// A body's bytes, or null when there are more than `maxBytes`; throws when it breaks off.
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

// The request's body, or the name of a fault.
export async function readBody(request, maxBytes, timeoutMs) {
  try {
    return (await inTime(timeoutMs, readBounded(request.body, maxBytes))) ?? "too_large";
  } catch {
    return "broken";
  }
}

// A document's bytes and its Cache-Control, or the code of what went wrong. Follows no redirect (an
// issuer's open redirect must not choose our keys) and reads no more than
// `maxBytes`.
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
      return response.status >= 300 && response.status < 400 ? "jwks_redirect" : "jwks_status";
    }
    const bytes = await readBounded(response.body, maxBytes);
    return bytes === null ? "jwks_too_large" : [bytes, response.headers.get("cache-control") ?? undefined];
  } catch {
    return late ? "jwks_timeout" : "jwks_unreachable";
  } finally {
    clearTimeout(timer);
  }
}

// Sends spans to a collector. Gives what went wrong, or nothing. `given` is name=value with
// commas between, values percent-encoded (OpenTelemetry's exporters, after W3C Baggage).
export async function sendSpans(url, given, body, timeoutMs) {
  let headers;
  try {
    const pairs = given.split(",").filter((pair) => pair.trim() !== "");
    headers = new Headers(
      pairs.map((pair) => {
        const at = pair.indexOf("=");
        // Not a name with the secret's last letter missing.
        if (at < 1) throw new Error("no name");
        return [pair.slice(0, at).trim(), decodeURIComponent(pair.slice(at + 1).trim())];
      }),
    );
  } catch {
    return "headers";
  }
  headers.set("content-type", "application/json");
  try {
    const signal = AbortSignal.timeout(timeoutMs);
    const response = await fetch(url, { method: "POST", headers, body, redirect: "manual", signal });
    await response.body?.cancel();
    return response.ok ? "" : "refused";
  } catch {
    return "unreachable";
  }
}

// A text of a KV namespace, or null; a location may keep the answer for `cacheS` seconds.
export async function readStore(store, name, cacheS, timeoutMs) {
  return inTime(timeoutMs, store.get(name, { type: "text", cacheTtl: cacheS }));
}

// Puts it there for `keepS` seconds.
export async function writeStore(store, name, text, keepS, timeoutMs) {
  await inTime(timeoutMs, store.put(name, text, { expirationTtl: keepS }));
}

// What a promise gives; throws when that takes longer.
async function inTime(timeoutMs, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error("late")), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

// The one object of a namespace that does this worker's work.
const objectOf = (namespace, name) => namespace.get(namespace.idFromName(name));
const LOG = "log";

// What an object says to a question, or the name of a fault.
async function ask(object, path, maxBytes) {
  const response = await object.fetch(`https://object${path}`);
  const bytes = await readBounded(response.body, maxBytes);
  return response.status !== 200 || bytes === null ? "failed" : bytes;
}

// The same as text in a list, or the name of a fault.
export async function askObject(namespace, name, path, timeoutMs, maxBytes) {
  return within(timeoutMs, async () => {
    const bytes = await ask(objectOf(namespace, name), path, maxBytes);
    return typeof bytes === "string" ? bytes : [new TextDecoder().decode(bytes)];
  });
}

// Hands something to an object. True when it has it for good.
export async function tellObject(namespace, name, path, body, timeoutMs) {
  const work = async () => {
    const response = await objectOf(namespace, name).fetch(`https://object${path}`, { method: "POST", body });
    await response.body?.cancel();
    return response.status === 204;
  };
  return (await within(timeoutMs, work)) === true;
}

// The absolute URL that browsers make of a reference, or nothing where it is none.
export function resolve(reference, base) {
  try {
    return new URL(reference, base).href;
  } catch {
    return undefined;
  }
}

// Where a location keeps pages of the revocation log for all its isolates. The key has the
// object's id, because another gateway in the same zone has the same cache and another log;
// and the host by which the gateway was asked, because the platform wants one of its own.
// A named cache is not what clients' requests are answered from.
const LOG_CACHE = "revocations";
// Nothing is kept for a request whose Host makes no URL.
const keyOf = (request, namespace, path) =>
  resolve(`/_gateway/revocations/${namespace.idFromName(LOG)}${path}`, request.url);

// A part of the revocation log and whether it was kept here, or the name of a fault. With
// `keepS`, the answer is kept for as many seconds. A cache that fails is no cache.
export async function readLog(request, context, namespace, path, mayBeKept, keepS, timeoutMs, maxBytes) {
  const work = async () => {
    const key = keyOf(request, namespace, path);
    const mayKeep = keepS > 0 && key !== undefined;
    const cache = mayKeep ? await caches.open(LOG_CACHE).catch(() => undefined) : undefined;
    if (mayBeKept) {
      const kept = await cache?.match(key).catch(() => undefined);
      if (kept !== undefined) return [await kept.text(), true];
    }
    const bytes = await ask(objectOf(namespace, LOG), path, maxBytes);
    if (typeof bytes === "string") return bytes;
    if (cache !== undefined) {
      const headers = { "content-type": "application/json", "cache-control": `max-age=${keepS}` };
      // Nobody waits for the keeping.
      context.waitUntil(cache.put(key, new Response(bytes, { headers })).catch(() => {}));
    }
    return [new TextDecoder().decode(bytes), false];
  };
  return within(timeoutMs, work);
}

// What `work` gives, or the name of what went wrong.
async function within(timeoutMs, work) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve("timeout"), timeoutMs);
  });
  try {
    return await Promise.race([work(), late]);
  } catch {
    return "unreachable";
  } finally {
    clearTimeout(timer);
  }
}

// What the runtime is to be told of each algorithm (RFC 7518, section 3; RFC 8037).
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

// Checks a signature by the runtime. `jwk` is text with the defining members alone;
// an `alg` in it would have to be spelt as each runtime likes it.
export async function verify(algorithm, thumbprint, jwk, signature, input) {
  const scheme = SCHEMES[algorithm];
  // The runtime throws at an Ed25519 signature of another length, as if it were its
  // own fault; whoever sent it must not be able to make it ours.
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

// Whether one more under this key is within the limit.
export async function limit(limiter, key) {
  return (await limiter.limit({ key })).success;
}
