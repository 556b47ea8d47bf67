// Passes requests on to upstreams and answers on to clients: each function is one crossing
// from wasm. Decides nothing.

// Bytes that are read of a request's body at once.
const PART_BYTES = 64 * 1024;

// A body longer than this waits for an early answer of the upstream before it is passed on: an
// upstream that refuses by the head alone and closes resets the connection while the body is on
// its way, and the runtime loses the answer with it. Services refuse lengths from 1 MiB on; shorter
// bodies, which are most, do not wait.
const HELD_BYTES = 1024 * 1024;

// A body without a length waits when at least this much of it has come and its end has not.
const READ_AHEAD_BYTES = PART_BYTES;

// Parts that are read for that at most: each is an object, however few bytes it has.
const READ_AHEAD_PARTS = 64;

// Milliseconds of that wait, at most.
const EARLY_ANSWER_MS = 100;

// Milliseconds without a byte from the client after which an upstream that breaks off may have
// had enough of waiting. One that breaks off sooner failed by itself.
const DAWDLE_MS = 1_000;

// Bytes of a refused body that are read and thrown away, and milliseconds for it: a connection
// that is closed with a body unread is reset, and the client never sees the answer.
const DRAIN_BYTES = 16 * 1024 * 1024;
const DRAIN_MS = 2_000;

// Bodies that are read for that at once; a flood of them must not hold an isolate's events.
const DRAINS_MAX = 256;

// Bodies up to here are the runtime's own to read.
const DRAIN_FROM_BYTES = 64 * 1024;

// Bytes of an early answer that is completed before it is passed on.
const EARLY_ANSWER_BYTES = 64 * 1024;

// Milliseconds that this takes, at most.
const EARLY_ANSWER_READ_MS = 1_000;

/**
 * What became of the client's body.
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
 * How each request's body is passed on. Entries of requests that have ended are collected.
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
 * Sends the request on, as `packed` says in a line each: URL, method, then names and values of
 * headers by turns. Gives a list: the upstream's Response or the name of a fault, and a line
 * each: whether the client had done its part by then, the status, whether the answer says
 * when to come back, the challenge of a 401, what was asked, the number of headers that lead the
 * client somewhere, their names and values by turns, and the names of all headers.
 *
 * A client has `bodyMs` to send its body; the upstream's `timeoutMs` begin when it has, and
 * end with the answer's headers: that body may stream for as long as it lives. So a client
 * that dawdles is never taken for an upstream that does. The platform's own cache stays out
 * of it: it knows nothing of whose answer this is.
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
  // A body that is going to be read here must not be decoded for that.
  if (isTimed) init.encodeResponseBody = "manual";
  if (method !== "GET" && method !== "HEAD") {
    const { body } = request;
    if (body !== null) return forwardBody(request, url, init, timeoutMs, bodyMs, maxBodyBytes);
  }
  // An upstream that is late is left alone rather than aborted, which would cost each request
  // a signal: what is still under way ends with the event.
  const asked = fetch(url, init);
  let response;
  try {
    response = await Promise.race([asked, scheduler.wait(timeoutMs)]);
  } catch {
    // The error's text may hold the upstream's address: it stays here.
    return ["unreachable", "1"];
  }
  if (response === undefined) {
    asked.then(discard, () => {});
    return ["timed_out", "1"];
  }
  return answered(response, "1");
}

/**
 * The same with the client's body. A body that is cut never reaches the upstream as one that
 * has ended: the whole request is given up.
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
    // An upstream that answers with an error does not want the rest (RFC 9112, section 9.5);
    // one that answers otherwise may.
    const isRefused = response.status >= 400 && !passage.hasEnded();
    passage.answered(isRefused);
    const line = ended();
    return answered(isRefused ? await complete(response, request) : response, line, response.url);
  } catch {
    passage.answered(true);
    // Given up here, or broken off by the upstream: the client's end of the body is seen apart.
    return fault === undefined ? ["unreachable", passage.dawdles() ? "" : "1"] : [fault, ended()];
  } finally {
    fault ??= "answered";
    clearTimeout(timer);
  }
}

/**
 * Passes a request's body on, part by part. Both ends are seen apart: a read that fails is the
 * client's, a write that fails the upstream's. Calls `onEnd` with what became of it.
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
   * Parts that came while the first was held, and the read that was under way then.
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
      // A copy, so that what is held takes no more memory than its bytes.
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
          // The upstream's answer may be on the way; the rest of the body is for nobody.
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
    // Whether the client owes its body and has not been heard of for a while.
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
 * Bytes as an answer's body of this length, which stays open until `drained`.
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
  // The client has gone.
  write().catch(() => {});
  return readable;
}

/**
 * An early answer for a client that still sends: complete, because what comes of the upstream's
 * connection is lost with it, and open until the client has sent the rest. One that is too long
 * or packed is passed on as it comes.
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
    // The connection went before the answer's body: its status and headers are an answer, too.
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
 * A body of which some parts were read, and perhaps the next is being read.
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
 * An upstream's answer, and what is to be known of it. Each look at a property is a call of
 * the runtime's, so none is made in vain.
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

// Headers of an answer that hold references.
const LEADS = new Set(["location", "content-location", "refresh", "link"]);

/**
 * The upstream's answer for the client, its body untouched. Names of headers to be removed
 * stand before the empty line of `packed`, names and values to be added behind it, the
 * request's id last. With `idleMs`, the body is cut off when it stands still for longer.
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
 * A body that breaks off when nothing comes for `idleMs` while somebody waits for it. A
 * client that reads slowly does not wait, and is no fault of the upstream's.
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
  // Some upstreams say it twice, or say one and send in parts (RFC 9112, section 6.3).
  const length = headers.get("content-length");
  if (length === null || !/^\d{1,15}$/.test(length) || headers.has("transfer-encoding")) return timed;
  const fixed = new FixedLengthStream(BigInt(length));
  // A break is the reader's to see, not another's.
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
 * Names and values by turns, from a place on, as a record: `Headers` would be filled through a
 * call for each, and copied by the request or answer that they are for. Without a prototype, whose
 * names a client could send.
 * @param {string[]} parts
 * @param {number} from
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
    // One field of several lines (RFC 9110, section 5.3).
    headers[name] = before === undefined ? parts[i + 1] : `${before}, ${parts[i + 1]}`;
  }
  return headers;
}

// What the runtime gives for bytes of a header that are no UTF-8.
const REPLACED = "\ufffd";

/**
 * The same as `record`, where a header has bytes that are no text: they cannot be written from
 * here, and stay as they are where the client's own line is left alone. Removes every header
 * that is not among those given.
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
 * The gateway's own answer. Given the request, it reaches a client that still sends its body.
 * @param {Request | undefined} request
 * @param {number} status
 * @param {string} head
 * @param {string} body
 */
export function answer(request, status, head, body) {
  const headers = record(head.split("\n"), 0);
  // An answer without a body, such as that to a preflight, may have a status that allows none.
  if (body === "") return new Response(null, { status, headers });
  const drained = request === undefined ? undefined : drain(request);
  if (drained === undefined) return new Response(body, { status, headers });
  return new Response(holdOpen(new TextEncoder().encode(body), drained), { status, headers });
}
