// Clients' bodies: read, passed on to an upstream, or discarded. Numbers and rules come from the plans of
// src/pipeline/wire.rs.

import { inTime, readBounded } from "./bindings.js";

/**
 * How the rest of a refused body is discarded; `DrainPlan` in wire.rs.
 * @typedef {object} DrainPlan
 * @property {number} part_bytes
 * @property {number} max_bytes
 * @property {number} time_ms
 * @property {number} at_once
 *
 * How a body is passed on; `BodyPlan` in wire.rs.
 * @typedef {object} BodyPlan
 * @property {number | null} length
 * @property {boolean} is_short
 * @property {number} max_bytes
 * @property {number} time_ms
 * @property {number} hold_ms
 * @property {number} read_ahead_bytes
 * @property {number} read_ahead_parts
 * @property {DrainPlan} drain
 *
 * How an early answer is read; `EarlyAnswerPlan` in wire.rs.
 * @typedef {object} EarlyAnswerPlan
 * @property {number} max_bytes
 * @property {number} time_ms
 * @property {DrainPlan} drain
 *
 * The result of one read of a body.
 * @typedef {ReadableStreamReadResult<Uint8Array<ArrayBuffer>>} Part
 */

/**
 * The body of each request that was forwarded. Entries are collected with their requests.
 * @type {WeakMap<Request, ClientBody>}
 */
const bodies = new WeakMap();

/**
 * Bodies that were read before they are forwarded.
 * @type {WeakMap<Request, Uint8Array<ArrayBuffer>>}
 */
const held = new WeakMap();

/**
 * Bodies that are being discarded, the oldest first, each with the time at which it no longer counts. A
 * time instead of a count: code of a request may never resume once its client has left.
 * @type {Set<{ until: number }>}
 */
const drains = new Set();

/**
 * Requests whose body was read in part.
 * @type {WeakSet<Request>}
 */
const unfinished = new WeakSet();

/**
 * Reads a body to be checked, and keeps it for `heldBody`. Returns its bytes, or the event that broke it off. The
 * rest of a longer body can be drained.
 * @param {Request} request
 * @param {number} maxBytes
 * @param {number} timeoutMs
 * @returns {Promise<Uint8Array<ArrayBuffer> | "over_limit" | "late" | "read_failed">}
 */
export async function readToKeep(request, maxBytes, timeoutMs) {
  if (Number(request.headers.get("content-length")) > maxBytes) return "over_limit";
  const reader = /** @type {ReadableStream<Uint8Array<ArrayBuffer>>} */ (request.body).getReader();
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let size = 0;
  try {
    const isWhole = await inTime(timeoutMs, async () => {
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        size += part.value.byteLength;
        if (size > maxBytes) return false;
        parts.push(part.value);
      }
      return true;
    });
    if (!isWhole) {
      unfinished.add(request);
      // Not after a failure: the runtime throws while a read is under way.
      reader.releaseLock();
      return "over_limit";
    }
    const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
    held.set(request, bytes);
    return bytes;
  } catch (error) {
    return error instanceof DOMException && error.name === "TimeoutError" ? "late" : "read_failed";
  }
}

/** A client's body, which is read in parts. */
export class ClientBody {
  #reader;
  #buffer;
  #drainBytes;
  #heardAt = Date.now();
  /** @type {"client" | "upstream"} */
  #waitsFor = "client";
  /** @type {"ended" | "refused" | "failed" | undefined} */
  #end;
  #isUnwanted = false;
  /** @type {WritableStreamDefaultWriter<Uint8Array> | undefined} */
  #writer;
  /**
   * Parts that were read while none could be written.
   * @type {Promise<Part>[]}
   */
  #ahead = [];
  /** @type {Promise<void> | undefined} */
  #read;
  /** @type {(value?: undefined) => void} */
  #tellAnswered = () => {};

  /**
   * @param {Request} request
   * @param {DrainPlan} plan
   */
  constructor(request, { part_bytes, max_bytes }) {
    const body = /** @type {ReadableStream<Uint8Array>} */ (request.body);
    this.#reader = body.getReader({ mode: "byob" });
    this.#buffer = new ArrayBuffer(part_bytes);
    this.#drainBytes = max_bytes;
    bodies.set(request, this);
  }

  /** Whether the upstream gets no more of it. */
  get isSent() {
    return this.#end !== undefined;
  }

  get hasEnded() {
    return this.#end === "ended";
  }

  /**
   * Returns the lines of a failure: what happened, what the body waits for, and the milliseconds since
   * the client sent something.
   * @param {string} event
   */
  failure(event) {
    const waitsFor = this.#end === undefined ? this.#waitsFor : "nothing";
    return `${event}\n${waitsFor}\n${Date.now() - this.#heardAt}`;
  }

  /**
   * Passes the body on. Returns the stream for the upstream. Calls `onSent` when the upstream gets no more
   * of it, or `onFailure` with the event that broke it off.
   * @param {BodyPlan} plan
   * @param {() => void} onSent
   * @param {(event: string) => void} onFailure
   */
  passOn(plan, onSent, onFailure) {
    const { length } = plan;
    const { readable, writable } =
      length === null ? new IdentityTransformStream() : new FixedLengthStream(BigInt(length));
    this.#writer = writable.getWriter();
    this.#read = this.#pass(plan, onSent, onFailure);
    return readable;
  }

  /**
   * Notes that the upstream has answered, and whether it wants the rest of the body.
   * @param {boolean} isRefused
   */
  answered(isRefused) {
    this.#isUnwanted ||= isRefused;
    this.#tellAnswered();
  }

  /** Breaks the upstream's stream off: the runtime never frees one that is neither closed nor aborted. */
  breakOff() {
    this.#writer?.abort().catch(() => {});
  }

  /** Reads and discards the rest. Resolves at its end. */
  discard() {
    this.#isUnwanted = true;
    this.#read ??= this.#pass();
    return this.#read;
  }

  /**
   * @param {BodyPlan} [plan]
   * @param {() => void} [onSent]
   * @param {(event: string) => void} [onFailure]
   */
  async #pass(plan, onSent, onFailure) {
    /** @param {"ended" | "refused" | "failed"} end @param {() => void} [then] */
    const finish = (end, then = onSent) => {
      if (this.#end !== undefined) return;
      this.#end = end;
      then?.();
    };
    try {
      if (plan !== undefined) await this.#hold(plan);
      for (let size = 0; !this.#isUnwanted || size <= this.#drainBytes; ) {
        this.#waitsFor = "client";
        const { done, value } = await (this.#ahead.shift() ?? this.#readPart());
        this.#heardAt = Date.now();
        this.#waitsFor = "upstream";
        size += value?.byteLength ?? 0;
        if (plan !== undefined && size > plan.max_bytes && !this.#isUnwanted) {
          this.#isUnwanted = true;
          finish("failed", () => onFailure?.("over_limit"));
        }
        if (!this.#isUnwanted && !(await this.#write(done, value))) {
          // The upstream's answer may still arrive. The rest of the body has no reader.
          this.#isUnwanted = true;
          finish("refused");
        }
        if (done) return finish("ended");
      }
      finish("refused");
    } catch {
      this.#isUnwanted = true;
      finish("failed", () => onFailure?.("read_failed"));
    } finally {
      if (this.#isUnwanted) this.breakOff();
    }
  }

  /**
   * Writes a part. Returns whether the upstream took it.
   * @param {boolean} isEnd
   * @param {Uint8Array | undefined} bytes
   */
  async #write(isEnd, bytes) {
    try {
      await (isEnd ? this.#writer?.close() : this.#writer?.write(/** @type {Uint8Array} */ (bytes)));
      return true;
    } catch {
      return false;
    }
  }

  /** Reads a part into the buffer of the one before. */
  async #readPart() {
    const part = /** @type {Part} */ (await this.#reader.read(new Uint8Array(this.#buffer)));
    this.#buffer = part.value?.buffer ?? this.#buffer;
    return part;
  }

  /**
   * Waits for an early answer, and reads ahead meanwhile. The end of the body ends the wait.
   * @param {BodyPlan} plan
   */
  async #hold({ hold_ms, read_ahead_bytes, read_ahead_parts }) {
    if (hold_ms === 0) return;
    const isAnswered = new Promise((resolve) => (this.#tellAnswered = resolve));
    const isOver = Promise.race([isAnswered, scheduler.wait(hold_ms)]).then(() => undefined);
    for (let size = 0; size < read_ahead_bytes && this.#ahead.length < read_ahead_parts; ) {
      // A copy, so that the part takes no more memory than its bytes.
      const reading = this.#readPart().then(({ done, value }) => /** @type {Part} */ ({ done, value: value?.slice() }));
      this.#ahead.push(reading);
      const part = await Promise.race([reading, isOver]);
      if (part === undefined || part.done) return;
      size += part.value.byteLength;
    }
    await isOver;
  }
}

/**
 * Continues to pass a request's body on after an early answer, or discards the rest if the upstream refused it.
 * @param {Request} request
 * @param {boolean} isRefused
 */
export function continueBody(request, isRefused) {
  bodies.get(request)?.answered(isRefused);
}

/**
 * Discards the rest of a request's body, unless it was read or too many are being discarded. Returns a
 * promise of its end, or undefined.
 * @param {Request} request
 * @param {DrainPlan} plan
 * @returns {Promise<void> | undefined}
 */
export function drain(request, plan) {
  const now = Date.now();
  for (const slot of drains) {
    if (slot.until > now) break;
    drains.delete(slot);
  }
  const known = bodies.get(request);
  const isUsed = request.bodyUsed && !unfinished.has(request);
  const isRead = known === undefined ? request.body === null || isUsed : known.hasEnded;
  if (isRead || drains.size >= plan.at_once) return undefined;
  const slot = { until: now + plan.time_ms };
  drains.add(slot);
  const discarded = (known ?? new ClientBody(request, plan)).discard();
  return Promise.race([discarded, scheduler.wait(plan.time_ms)]).finally(() => {
    drains.delete(slot);
    known?.breakOff();
  });
}

/**
 * Reads a request's body. Returns its bytes, or null if there are more than `maxBytes`.
 * @param {Request} request
 * @param {number} maxBytes
 * @param {number} timeoutMs
 */
export function readBody(request, maxBytes, timeoutMs) {
  return inTime(timeoutMs, () => readBounded(request.body, maxBytes));
}

/**
 * Reads a body completely, and keeps it for `heldBody`. Returns its SHA-256, or null if it has more than `maxBytes`.
 * The rest of a longer body can be drained.
 * @param {Request} request
 * @param {number} maxBytes
 * @param {number} timeoutMs
 */
export async function digestBody(request, maxBytes, timeoutMs) {
  const absent = request.body === null ? new Uint8Array() : undefined;
  const bytes = held.get(request) ?? absent ?? (await readToKeep(request, maxBytes, timeoutMs));
  if (bytes === "over_limit") return null;
  if (typeof bytes === "string") throw new DOMException(bytes, bytes === "late" ? "TimeoutError" : "NetworkError");
  return crypto.subtle.digest("SHA-256", bytes);
}

/**
 * Returns the body that `digestBody` or `readToKeep` has read.
 * @param {Request} request
 */
export function heldBody(request) {
  return held.get(request);
}
