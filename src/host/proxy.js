// Forwards requests to upstreams and answers to clients. Each function is one call from wasm. It
// performs I/O and makes no decision. src/pipeline/wire.rs describes and parses what crosses.

import { inTime, readBounded } from "./bindings.js";
import { ClientBody, drain, heldBody } from "./body.js";

/**
 * @import { BodyPlan, EarlyAnswerPlan } from "./body.js"
 *
 * The upstream's answer and its facts, or undefined and a failure.
 * @typedef {[Response | undefined, string]} Forwarded
 */

/**
 * Forwards the request. The lines of `packed` are URL, method, and alternating names and values of
 * headers; `plan` is the BodyPlan if a body may follow.
 *
 * The upstream's `timeoutMs` begin with the end of the client's body and end with the answer's headers, so
 * a slow client is never counted as a slow upstream. The answer's body has no time limit. The platform's
 * cache is off, because it does not know whose answer this is.
 * @param {Request} request
 * @param {string} packed
 * @param {number} timeoutMs
 * @param {boolean} isTimed
 * @param {string | undefined} plan
 * @param {Fetcher | undefined} fetcher of the binding; without one, the runtime's own `fetch`
 * @returns {Promise<Forwarded>}
 */
export function forward(request, packed, timeoutMs, isTimed, plan, fetcher) {
  // One promise and callbacks cost less than a race. What throws rejects the promise.
  return new Promise((resolve, reject) => {
    const parts = packed.split("\n");
    const [url, method] = parts;
    const headers = packed.includes(REPLACED) ? keepBytes(request.headers, parts, 2) : record(parts, 2);
    /** @type {RequestInit} */
    const init = { method, headers, redirect: "manual", cache: "no-store" };
    // A body that is read here must not be decoded.
    if (isTimed) init.encodeResponseBody = "manual";
    if (plan !== undefined && request.body !== null) {
      resolve(forwardBody(request, url, init, timeoutMs, JSON.parse(plan), fetcher));
      return;
    }
    // A late request is not aborted, because a signal costs time in every request. It ends with the
    // event.
    const asked = send(fetcher, url, init);
    const timer = setTimeout(() => {
      resolve([undefined, "late"]);
      asked.then(discard, () => {});
    }, timeoutMs);
    asked
      .then(
        (response) => {
          clearTimeout(timer);
          resolve([response, factsOf(response, true)]);
        },
        () => {
          clearTimeout(timer);
          // The error's text may hold the upstream's address, so it is not returned.
          resolve([undefined, "failed"]);
        },
      )
      .catch(reject);
  });
}

/**
 * @param {Fetcher | undefined} fetcher
 * @param {string} url
 * @param {RequestInit} init
 */
function send(fetcher, url, init) {
  return fetcher === undefined ? fetch(url, init) : fetcher.fetch(url, init);
}

/**
 * Forwards a request with a body. If the body breaks off, the whole request is aborted, also after an early
 * answer. Until the answer the upstream never takes the body for complete. After the answer, workerd ends
 * a chunked body as a complete one; a shorter body than its length stays incomplete.
 * @param {Request} request
 * @param {string} url
 * @param {RequestInit} init
 * @param {number} timeoutMs
 * @param {BodyPlan} plan
 * @param {Fetcher | undefined} fetcher
 * @returns {Promise<Forwarded>}
 */
async function forwardBody(request, url, init, timeoutMs, plan, fetcher) {
  if (plan.is_short || heldBody(request) !== undefined)
    return forwardWhole(request, url, init, timeoutMs, plan.time_ms, fetcher);
  const controller = new AbortController();
  const body = new ClientBody(request, plan.drain);
  let isAnswered = false;
  /** @type {string | undefined} */
  let failure;
  /** @type {number | null} */
  let timer = null;
  /** @param {string} event */
  const giveUp = (event) => {
    failure ??= body.failure(event);
    controller.abort();
    body.breakOff();
  };
  /** @param {number} millis */
  const expect = (millis) => {
    clearTimeout(timer);
    if (!isAnswered) timer = setTimeout(giveUp, millis, "late");
  };
  expect(plan.time_ms);
  const readable = body.passOn(plan, () => expect(timeoutMs), giveUp);
  try {
    const response = await send(fetcher, url, { ...init, body: readable, signal: controller.signal });
    isAnswered = true;
    // The client's time goes on while it sends the rest.
    if (body.isSent) clearTimeout(timer);
    return [response, factsOf(response, body.hasEnded)];
  } catch {
    isAnswered = true;
    clearTimeout(timer);
    failure ??= body.failure("failed");
    body.answered(true);
    // The client may send nothing more, which would leave the stream open.
    body.breakOff();
    return [undefined, failure];
  }
}

/**
 * Forwards a request with a short body, which is read completely first. The upstream gets all of it or no
 * request. A late request is not aborted; it ends with the event.
 * @param {Request} request
 * @param {string} url
 * @param {RequestInit} init
 * @param {number} timeoutMs
 * @param {number} bodyMs
 * @param {Fetcher | undefined} fetcher
 * @returns {Promise<Forwarded>}
 */
async function forwardWhole(request, url, init, timeoutMs, bodyMs, fetcher) {
  let hasRead = false;
  /** @type {Promise<Response> | undefined} */
  let asked;
  try {
    // Each timer is cleared, because a race with one that runs keeps the body in memory.
    const body = heldBody(request) ?? (await inTime(bodyMs, () => request.arrayBuffer()));
    hasRead = true;
    const answer = send(fetcher, url, { ...init, body });
    asked = answer;
    const response = await inTime(timeoutMs, () => answer);
    return [response, factsOf(response, true)];
  } catch (error) {
    const isLate = error instanceof DOMException && error.name === "TimeoutError";
    if (!hasRead) return [undefined, isLate ? "late\nclient" : "read_failed"];
    asked?.then(discard, () => {});
    return [undefined, isLate ? "late" : "failed"];
  }
}

/**
 * Returns the facts of an upstream's answer.
 * @param {Response} response
 * @param {boolean} hasEnded
 */
function factsOf(response, hasEnded) {
  let lines = `${hasEnded ? "1" : ""}\n${response.status}`;
  // A callback costs the runtime less than the names of an iterator.
  response.headers.forEach((_, name) => {
    lines += `\n${name}`;
  });
  return lines;
}

/**
 * Makes an early answer for a client that is still sending. The body is read completely first, and
 * stays open until the client has sent the rest. Without its end within the bounds it is streamed.
 * @param {Request} request
 * @param {Response} response
 * @param {string} plan
 */
export async function completeAnswer(request, response, plan) {
  /** @type {EarlyAnswerPlan} */
  const { max_bytes, time_ms, drain: drainPlan } = JSON.parse(plan);
  const { headers, status, statusText } = response;
  const drained = drain(request, drainPlan);
  const [first, whole] = response.body?.tee() ?? [null, null];
  const reading = Promise.race([readBounded(first, max_bytes), scheduler.wait(time_ms)]);
  // The connection may close before the body. Status and headers are still an answer.
  const bytes = await reading.catch(() => new Uint8Array());
  if (!bytes) return new Response(whole, response);
  whole?.cancel().catch(() => {});
  return new Response(drained === undefined ? bytes : holdOpen(bytes, drained), { status, statusText, headers });
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
 * Makes the client's answer from the upstream's, with the same body. `changes` has the names of headers
 * to remove, an empty line, and alternating names and values to add. With `idleMs`, a body that is idle for
 * longer is cut off, and `idleLine` is logged; it has `bodyBytes` if they are given.
 * @param {Response} response
 * @param {string} changes
 * @param {number | undefined} idleMs
 * @param {string | undefined} idleLine
 * @param {bigint | undefined} bodyBytes
 */
export function passOn(response, changes, idleMs, idleLine, bodyBytes) {
  const { body } = response;
  const answer =
    idleMs === undefined || body === null
      ? new Response(body, response)
      : timed(response, cutIdle(body, idleMs, idleLine), bodyBytes);
  const lines = changes.split("\n");
  const added = lines.indexOf("") + 1;
  const { headers } = answer;
  for (let i = 0; i < added - 1; i += 1) headers.delete(lines[i]);
  for (let i = added; i + 1 < lines.length; i += 2) headers.append(lines[i], lines[i + 1]);
  return answer;
}

/**
 * Makes an answer with this body in place of its own, in chunks if its length is not given.
 * @param {Response} response
 * @param {ReadableStream<Uint8Array>} body
 * @param {bigint | undefined} length
 */
function timed(response, body, length) {
  const { status, statusText, headers } = response;
  /** @type {ResponseInit} */
  const init = { status, statusText, headers, encodeBody: "manual" };
  if (length === undefined) return new Response(body, init);
  const { readable, writable } = new FixedLengthStream(length);
  // The reader of the body sees the failure.
  body.pipeTo(writable).catch(() => {});
  return new Response(readable, init);
}

/**
 * Returns a body that fails when no part arrives for `idleMs` while the client is reading. A slow
 * reader is not the upstream's fault.
 * @param {ReadableStream<Uint8Array>} body
 * @param {number} idleMs
 * @param {string | undefined} idleLine
 * @returns {ReadableStream<Uint8Array>}
 */
function cutIdle(body, idleMs, idleLine) {
  const reader = body.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        const timer = setTimeout(() => {
          const error = new Error("idle");
          console.warn(idleLine);
          controller.error(error);
          reader.cancel(error).catch(() => {});
        }, idleMs);
        try {
          const { done, value } = await reader.read();
          if (done) controller.close();
          else controller.enqueue(value);
        } finally {
          clearTimeout(timer);
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
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
 * Makes an answer of the gateway's own. With the request and a DrainPlan, it reaches a client that is still
 * sending its body.
 * @param {number} status
 * @param {string} head
 * @param {string} body
 * @param {Request | undefined} request
 * @param {string | undefined} plan
 */
export function answer(status, head, body, request, plan) {
  const headers = record(head.split("\n"), 0);
  // The status of an answer without a body, such as to a preflight, may allow none.
  if (body === "") return new Response(null, { status, headers });
  const drained = request === undefined || plan === undefined ? undefined : drain(request, JSON.parse(plan));
  if (drained === undefined) return new Response(body, { status, headers });
  return new Response(holdOpen(new TextEncoder().encode(body), drained), { status, headers });
}
