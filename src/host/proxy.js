// Forwards requests to upstreams and answers to clients. Each function is one call from wasm. It
// performs I/O and makes no decision.

// Bytes of one read from a request's body.
const PART_BYTES = 64 * 1024;

// A longer body waits for an early answer of the upstream before it is sent. An upstream that refuses
// by the head and closes resets the connection while the body is sent, and the runtime then loses the
// answer. Services refuse lengths from 1 MiB on; shorter bodies do not wait.
const HELD_BYTES = 1024 * 1024;

// A body without a length waits once this many bytes have arrived without its end.
const READ_AHEAD_BYTES = PART_BYTES;

// Most parts that are read meanwhile: each is an object, however small.
const READ_AHEAD_PARTS = 64;

// Longest wait in milliseconds.
const EARLY_ANSWER_MS = 100;

// Milliseconds without a byte from the client after which an upstream that closes the connection may
// have given up on the client. An upstream that closes sooner has failed.
const DAWDLE_MS = 1_000;

// Bytes of a refused body that are read and discarded, and milliseconds for it. A connection that is
// closed with an unread body is reset, and the client never sees the answer.
const DRAIN_BYTES = 16 * 1024 * 1024;
const DRAIN_MS = 2_000;

// Bodies that are discarded at once, so that a flood of them cannot hold an isolate's events.
const DRAINS_MAX = 256;

// The runtime reads bodies up to this length by itself.
const DRAIN_FROM_BYTES = 64 * 1024;

// Longest early answer in bytes that is read completely before it is passed on.
const EARLY_ANSWER_BYTES = 64 * 1024;

// Longest time in milliseconds for that.
const EARLY_ANSWER_READ_MS = 1_000;

/**
 * How the client's body ended.
 * @typedef {"ended" | "client_gone" | "too_large" | "refused"} BodyEnd
 *
 * The result of one read of a body.
 * @typedef {ReadableStreamReadResult<Uint8Array<ArrayBuffer>>} Part
 *
 * A request's body on its way to the upstream.
 * @typedef {object} Passage
 * @property {ReadableStream} readable
 * @property {() => boolean} hasEnded
 * @property {() => boolean} waitsForClient
 * @property {() => boolean} dawdles
 * @property {(isRefused: boolean) => void} answered
 * @property {() => Promise<void>} drain
 */

/**
 * The passage of each request's body. Entries are collected with their requests.
 * @type {WeakMap<Request, Passage>}
 */
const passages = new WeakMap();
/**
 * Bodies that are being read and discarded, the oldest first, each with the time at which it no longer
 * counts. A time instead of a count: code of a request may never resume once its client has left.
 * @type {Set<{ until: number }>}
 */
const drains = new Set();

/**
 * Forwards the request. The lines of `packed` are URL, method, and alternating names and values of
 * headers. Returns the upstream's Response, or the name of a fault, and the facts of the answer in
 * lines: whether the client's body was complete, status, whether `Retry-After` is set, the challenge
 * of a 401, the URL, the number of headers with references, their alternating names and values, and
 * the names of all headers. `src/pipeline/wire.rs` parses both.
 *
 * The client has `bodyMs` for its body. The upstream's `timeoutMs` begin then and end with the
 * answer's headers, so a slow client is never counted as a slow upstream. The answer's body has no
 * time limit. The platform's cache is off, because it does not know whose answer this is.
 * @param {Request} request
 * @param {string} packed
 * @param {number} timeoutMs
 * @param {number} bodyMs
 * @param {number} maxBodyBytes
 * @param {boolean} isTimed
 * @returns {Promise<[Response | string, string]>}
 */
export async function forward(request, packed, timeoutMs, bodyMs, maxBodyBytes, isTimed) {
  const parts = packed.split("\n");
  const [url, method] = parts;
  const headers = packed.includes(REPLACED) ? keepBytes(request.headers, parts, 2) : record(parts, 2);
  /** @type {RequestInit} */
  const init = { method, headers, redirect: "manual", cache: "no-store" };
  // A body that is read here must not be decoded.
  if (isTimed) init.encodeResponseBody = "manual";
  if (method !== "GET" && method !== "HEAD") {
    const { body } = request;
    if (body !== null) return forwardBody(request, url, init, timeoutMs, bodyMs, maxBodyBytes);
  }
  // A late request is not aborted, because a signal costs time in every request. It ends with the
  // event.
  const asked = fetch(url, init);
  let response;
  try {
    response = await Promise.race([asked, scheduler.wait(timeoutMs)]);
  } catch {
    // The error's text may hold the upstream's address, so it is not returned.
    return ["unreachable", "1"];
  }
  if (response === undefined) {
    asked.then(discard, () => {});
    return ["timed_out", "1"];
  }
  return answered(response, "1");
}

/**
 * Forwards a request with a body. If the body breaks off, the whole request is aborted, so that the
 * upstream never takes it for complete.
 * @param {Request} request
 * @param {string} url
 * @param {RequestInit} init
 * @param {number} timeoutMs
 * @param {number} bodyMs
 * @param {number} maxBodyBytes
 * @returns {Promise<[Response | string, string]>}
 */
async function forwardBody(request, url, init, timeoutMs, bodyMs, maxBodyBytes) {
  const controller = new AbortController();
  /** @type {string | undefined} */
  let fault;
  /** @type {number | null} */
  let timer = null;
  /** @param {string} name */
  const giveUp = (name) => {
    fault ??= name;
    controller.abort();
  };
  const passage = passBody(request, maxBodyBytes, (end) => {
    if (fault !== undefined) return;
    if (end === "client_gone" || end === "too_large") return giveUp(end);
    clearTimeout(timer);
    timer = setTimeout(giveUp, timeoutMs, "timed_out");
  });
  timer = setTimeout(() => giveUp(passage.waitsForClient() ? "body_slow" : "stalled"), bodyMs);
  const ended = () => (passage.hasEnded() ? "1" : "");
  try {
    const response = await fetch(url, { ...init, body: passage.readable, signal: controller.signal });
    // After an error the upstream does not want the rest of the body (RFC 9112, section 9.5).
    const isRefused = response.status >= 400 && !passage.hasEnded();
    passage.answered(isRefused);
    const line = ended();
    return answered(isRefused ? await complete(response, request) : response, line, response.url);
  } catch {
    passage.answered(true);
    // Aborted here, or closed by the upstream. The client's end of the body is known separately.
    return fault === undefined ? ["unreachable", passage.dawdles() ? "" : "1"] : [fault, ended()];
  } finally {
    fault ??= "answered";
    clearTimeout(timer);
  }
}

/**
 * Forwards a request's body in parts. A failed read is the client's fault, a failed write the
 * upstream's. Calls `onEnd` with the result.
 * @param {Request} request
 * @param {number} maxBytes
 * @param {(end: BodyEnd) => void} onEnd
 * @returns {Passage}
 */
function passBody(request, maxBytes, onEnd) {
  const length = request.headers.get("content-length");
  const known = length === null ? undefined : Number(length);
  const { readable, writable } =
    length === null ? new IdentityTransformStream() : new FixedLengthStream(BigInt(length));
  const body = /** @type {ReadableStream<Uint8Array>} */ (request.body);
  const reader = body.getReader({ mode: "byob" });
  let heardAt = Date.now();
  let waitsForClient = true;
  let isUnwanted = false;
  /** @type {BodyEnd | undefined} */
  let end;
  /** @type {(value?: undefined) => void} */
  let tellAnswered;
  const isAnswered = new Promise((resolve) => (tellAnswered = resolve));
  /** @param {BodyEnd} how */
  const finish = (how) => {
    if (end !== undefined) return;
    end = how;
    onEnd(how);
  };
  /**
   * Parts that arrived while the first was held, and the read in progress.
   * @type {Part[]}
   */
  const ahead = [];
  /** @type {Promise<Part> | undefined} */
  let reading;
  /** @param {Uint8Array} first */
  const hold = async (first) => {
    const isOver = Promise.race([isAnswered, scheduler.wait(EARLY_ANSWER_MS)]).then(() => undefined);
    if (known !== undefined) return known > HELD_BYTES ? isOver : undefined;
    let buffer = new ArrayBuffer(PART_BYTES);
    for (let size = first.byteLength; size < READ_AHEAD_BYTES; ) {
      reading = reader.read(new Uint8Array(buffer));
      const part = await Promise.race([reading, isOver]);
      if (part === undefined) return undefined;
      reading = undefined;
      // A copy, so that the part takes no more memory than its bytes.
      ahead.push(/** @type {Part} */ ({ done: part.done, value: part.value?.slice() }));
      if (part.done || ahead.length === READ_AHEAD_PARTS) return undefined;
      size += part.value.byteLength;
      buffer = part.value.buffer;
    }
    return isOver;
  };
  const pass = async () => {
    const writer = writable.getWriter();
    let buffer = new ArrayBuffer(Math.min(known ?? PART_BYTES, PART_BYTES) || 1);
    for (let size = 0; ; ) {
      waitsForClient = true;
      const held = ahead.shift();
      let part;
      try {
        part = held;
        if (part === undefined) {
          part = await (reading ?? reader.read(new Uint8Array(buffer)));
          reading = undefined;
        }
        if (size === 0 && !part.done && !isUnwanted) await hold(part.value);
      } catch (error) {
        // A stream that is neither closed nor aborted is kept by the runtime for good.
        writer.abort(error).catch(() => {});
        return finish("client_gone");
      }
      heardAt = Date.now();
      waitsForClient = false;
      size += part.value?.byteLength ?? 0;
      if (!isUnwanted) {
        try {
          if (size > maxBytes) throw new Error("too large");
          await (part.done ? writer.close() : writer.write(part.value));
        } catch {
          // The upstream's answer may still arrive. The rest of the body has no reader.
          isUnwanted = true;
          finish(size > maxBytes ? "too_large" : "refused");
        }
      }
      if (part.done) return finish("ended");
      if (held === undefined) buffer = part.value.buffer;
      if (isUnwanted && size > DRAIN_BYTES) return finish("refused");
    }
  };
  const passed = pass();
  const passage = {
    readable,
    hasEnded: () => end === "ended",
    waitsForClient: () => waitsForClient,
    // Whether the client owes its body and has sent nothing for a while.
    dawdles: () => end === undefined && waitsForClient && Date.now() - heardAt >= DAWDLE_MS,
    /**
     * Notes that the upstream has answered, and whether it wants the rest of the body.
     * @param {boolean} isRefused
     */
    answered(isRefused) {
      isUnwanted ||= isRefused;
      tellAnswered();
    },
    drain: () => passed,
  };
  passages.set(request, passage);
  return passage;
}

/**
 * Reads and discards the rest of a refused request's body if the runtime would not do so. Returns a promise of
 * the end, or undefined.
 * @param {Request} request
 * @returns {Promise<unknown> | undefined}
 */
function drain(request) {
  const now = Date.now();
  for (const slot of drains) {
    if (slot.until > now) break;
    drains.delete(slot);
  }
  if (drains.size >= DRAINS_MAX) return undefined;
  const passage = passages.get(request);
  let left;
  if (passage !== undefined) {
    if (passage.hasEnded()) return undefined;
    left = passage.drain();
  } else {
    const length = request.headers.get("content-length");
    const isShort = length !== null && Number(length) <= DRAIN_FROM_BYTES;
    if (isShort || request.body === null || request.bodyUsed) return undefined;
    left = throwAway(request.body.getReader({ mode: "byob" }));
  }
  const slot = { until: now + DRAIN_MS };
  drains.add(slot);
  return Promise.race([left.catch(() => {}), scheduler.wait(DRAIN_MS)]).finally(() => drains.delete(slot));
}

/** @param {ReadableStreamBYOBReader} reader */
async function throwAway(reader) {
  let buffer = new ArrayBuffer(PART_BYTES);
  for (let size = 0; size <= DRAIN_BYTES; ) {
    const { done, value } = await reader.read(new Uint8Array(buffer));
    if (done) return;
    size += value.byteLength;
    buffer = value.buffer;
  }
}

/**
 * Returns a body of these bytes that stays open until `drained`.
 * @param {Uint8Array} bytes
 * @param {Promise<unknown>} drained
 */
function holdOpen(bytes, drained) {
  const { readable, writable } = new FixedLengthStream(BigInt(bytes.byteLength));
  const write = async () => {
    const writer = writable.getWriter();
    if (bytes.byteLength > 0) await writer.write(bytes);
    await drained;
    await writer.close();
  };
  // The client has disconnected.
  write().catch(() => {});
  return readable;
}

/**
 * Makes an early answer for a client that is still sending. The body is read completely first,
 * because it is lost with the upstream's connection, and stays open until the client has sent the
 * rest. An answer that is too long or compressed is streamed.
 * @param {Response} response
 * @param {Request} request
 */
async function complete(response, request) {
  const { headers, body } = response;
  const length = headers.get("content-length");
  if (headers.has("content-encoding") || (length !== null && Number(length) > EARLY_ANSWER_BYTES)) return response;
  const drained = drain(request);
  const reader = body?.getReader();
  const late = scheduler.wait(EARLY_ANSWER_READ_MS);
  const parts = [];
  let size = 0;
  try {
    while (reader !== undefined) {
      const next = reader.read();
      const read = await Promise.race([next, late]);
      if (read?.done) break;
      if (read !== undefined) {
        parts.push(read.value);
        size += read.value.byteLength;
      }
      if (read === undefined || size > EARLY_ANSWER_BYTES) {
        return new Response(rest(parts, read === undefined ? next : undefined, reader), response);
      }
    }
  } catch {
    // The connection closed before the body. Status and headers are still an answer.
    parts.length = 0;
    size = 0;
  }
  const bytes = join(parts, size);
  const { status, statusText } = response;
  const kept = new Headers(headers);
  kept.delete("content-length");
  return new Response(drained === undefined ? bytes : holdOpen(bytes, drained), { status, statusText, headers: kept });
}

/**
 * Returns the rest of a body as a stream: the parts that were read, a read in progress, and what
 * follows.
 * @param {Uint8Array[]} parts
 * @param {Promise<ReadableStreamReadResult<Uint8Array>> | undefined} next
 * @param {ReadableStreamDefaultReader<Uint8Array>} reader
 */
function rest(parts, next, reader) {
  let pending = next;
  return new ReadableStream({
    async pull(controller) {
      if (parts.length > 0) return controller.enqueue(parts.shift());
      const { done, value } = await (pending ?? reader.read());
      pending = undefined;
      if (done) controller.close();
      else controller.enqueue(value);
    },
    cancel: (reason) => reader.cancel(reason),
  });
}

/**
 * @param {Uint8Array[]} parts
 * @param {number} size
 */
function join(parts, size) {
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const part of parts) {
    bytes.set(part, offset);
    offset += part.byteLength;
  }
  return bytes;
}

/**
 * Returns an upstream's answer with its facts. Each property is read once, because each read is a
 * call into the runtime.
 * @param {Response} response
 * @param {string} ended
 * @returns {[Response | string, string]}
 */
function answered(response, ended, asked = response.url) {
  const { status, headers } = response;
  if ((status < 200 || status > 599) && !(status === 101 && response.webSocket != null)) {
    discard(response);
    return ["bad_status", ended];
  }
  const names = [...headers.keys()];
  const pauses = names.includes("retry-after") ? "1" : "";
  const challenge = (status === 401 && headers.get("www-authenticate")) || "";
  const leads = [];
  for (const name of names) if (LEADS.has(name)) leads.push(name, headers.get(name));
  const facts = [ended, status, pauses, challenge, leads.length > 0 ? asked : "", leads.length / 2, ...leads, ...names];
  return [response, facts.join("\n")];
}

// Response headers with references.
const LEADS = new Set(["location", "content-location", "refresh", "link"]);

/**
 * Makes the client's answer from the upstream's, with the same body. `packed` has the names of headers
 * to remove, an empty line, and alternating names and values to add, the request's id last. With
 * `idleMs`, a body that is idle for longer is cut off.
 * @param {Response} response
 * @param {number} status
 * @param {string} packed
 * @param {number | undefined} idleMs
 */
export function passOn(response, status, packed, idleMs) {
  const parts = packed.split("\n");
  const added = parts.indexOf("") + 1;
  const { body } = response;
  let answer;
  if (status === 101) {
    answer = new Response(null, response);
  } else if (idleMs !== undefined && body !== null) {
    const { statusText, headers } = response;
    const timed = cutIdle(body, headers, idleMs, parts.at(-1));
    answer = new Response(timed, { status, statusText, headers, encodeBody: "manual" });
  } else {
    answer = new Response(body, response);
  }
  const { headers } = answer;
  for (let i = 0; i < added - 1; i += 1) headers.delete(parts[i]);
  for (let i = added; i + 1 < parts.length; i += 2) headers.append(parts[i], parts[i + 1]);
  return answer;
}

/**
 * Returns a body that fails when no part arrives for `idleMs` while the client is reading. A slow
 * reader is not the upstream's fault.
 * @param {ReadableStream<Uint8Array>} body
 * @param {Headers} headers
 * @param {number} idleMs
 * @param {string | undefined} requestId
 */
function cutIdle(body, headers, idleMs, requestId) {
  const reader = body.getReader();
  const timed = new ReadableStream(
    {
      async pull(controller) {
        /** @type {number | null} */
        let timer = null;
        const late = new Promise((_, reject) => {
          timer = setTimeout(() => reject(new Error("idle")), idleMs);
        });
        try {
          const { done, value } = await Promise.race([reader.read(), late]);
          if (done) controller.close();
          else controller.enqueue(value);
        } catch (error) {
          if (error instanceof Error && error.message === "idle") {
            const message = "an answer's body stood still for too long and was cut off";
            console.warn(JSON.stringify({ level: "warn", service: "gateway", message, request_id: requestId }));
          }
          controller.error(error);
          reader.cancel(error).catch(() => {});
        } finally {
          clearTimeout(timer);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
  // Some upstreams send Content-Length twice, or together with chunks (RFC 9112, section 6.3).
  const length = headers.get("content-length");
  if (length === null || !/^\d{1,15}$/.test(length) || headers.has("transfer-encoding")) return timed;
  const fixed = new FixedLengthStream(BigInt(length));
  // The reader of the body sees the failure.
  timed.pipeTo(fixed.writable).catch(() => {});
  return fixed.readable;
}

/**
 * Cancels the body of an answer that is not read.
 * @param {Response} response
 */
export function discard(response) {
  response.body?.cancel().catch(() => {});
}

/**
 * Returns alternating names and values, from an index on, as a record. `Headers` would take a call for
 * each, and be copied. The record has no prototype, because a client could send the names of one.
 * @param {string[]} parts
 * @param {number} from
 * @returns {Record<string, string>}
 */
function record(parts, from) {
  /** @type {any} */
  const headers = { __proto__: null };
  for (let i = from; i + 1 < parts.length; i += 2) {
    const name = parts[i];
    const before = headers[name];
    // A field with several lines (RFC 9110, section 5.3).
    headers[name] = before === undefined ? parts[i + 1] : `${before}, ${parts[i + 1]}`;
  }
  return headers;
}

// The runtime's replacement for header bytes that are not UTF-8.
const REPLACED = "\ufffd";

/**
 * Like `record`, for a request with header bytes that are not UTF-8. JavaScript cannot write them, so
 * the client's own headers are copied, and every header that is not in `parts` is removed.
 * @param {Headers} sent
 * @param {string[]} parts
 * @param {number} from
 */
function keepBytes(sent, parts, from) {
  const given = record(parts, from);
  const headers = new Headers(sent);
  for (const [name, value] of sent) {
    if (given[name] === value) delete given[name];
    else headers.delete(name);
  }
  for (const name in given) headers.set(name, given[name]);
  return headers;
}

/**
 * Makes an answer of the gateway's own. With the request, it reaches a client that is still sending
 * its body.
 * @param {Request | undefined} request
 * @param {number} status
 * @param {string} head
 * @param {string} body
 */
export function answer(request, status, head, body) {
  const headers = record(head.split("\n"), 0);
  // The status of an answer without a body, such as to a preflight, may allow none.
  if (body === "") return new Response(null, { status, headers });
  const drained = request === undefined ? undefined : drain(request);
  if (drained === undefined) return new Response(body, { status, headers });
  return new Response(holdOpen(new TextEncoder().encode(body), drained), { status, headers });
}
