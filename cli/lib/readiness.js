// Waits for a started program to become ready.

import { EXIT_USAGE, ScriptError, errorCode } from "./errors.js";
import { parseJson } from "./files.js";

/**
 * @import { Note } from "./progress.js"
 * @import { Running, Ended } from "./processes.js"
 * @typedef {object} Awaited
 * @property {string} name
 * @property {string[]} ready URLs that answer 200 when the program is ready
 * @property {string} [secrets] file of its secrets
 */

// Longest wait for a program to become ready; a laptop under load takes 20 s.
const READY_MS = 120_000;
const ASK_MS = 5_000;
const POLL_MS = 50;

/**
 * Resolves when every readiness URL answers 200; rejects when the program ends first.
 * @param {Awaited} service
 * @param {Running} running
 * @param {{ note?: Note }} [options]
 */
export async function waitUntilReady(service, running, { note = () => {} } = {}) {
  const end = Date.now() + READY_MS;
  for (const url of service.ready) {
    for (;;) {
      const answer = await fetchStatus(url);
      if (answer.status === 200) break;
      if (running.hasEnded) throw endedBadly(running, await running.ended);
      // A missing secret does not appear by waiting.
      const secret = answer.missing?.find((text) => text.startsWith("secret "));
      if (secret !== undefined) {
        throw new ScriptError(`${service.name} is not ready: ${secret}; write it into ${service.secrets}.`, {
          code: EXIT_USAGE,
        });
      }
      if (Date.now() > end) {
        throw new ScriptError(
          `${service.name} did not become ready in ${READY_MS / 1000} s (${url}: ${answer.said}); its last lines are above.`,
          { lines: running.lastLines },
        );
      }
      note(answer.status === undefined ? "" : answer.said);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
  note("");
}

/**
 * Resolves with what a running gateway lacks, such as "secret METRICS_TOKEN".
 * @param {string} url
 */
export async function fetchMissing(url) {
  return (await fetchStatus(`${url}/ready`)).missing ?? [];
}

/**
 * @param {string} url
 * @returns {Promise<{ status?: number, missing?: string[], said: string }>}
 */
async function fetchStatus(url) {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(ASK_MS), redirect: "manual" });
    const text = await response.text();
    const missing = response.status === 200 ? [] : [parseJson(text)?.missing ?? []].flat().map(String);
    return { status: response.status, missing, said: `${response.status} ${missing.join(", ")}`.trim() };
  } catch (error) {
    const { cause, name } = /** @type {Error} */ (error);
    return { status: undefined, said: String(errorCode(cause) ?? name) };
  }
}

/**
 * @param {Running} running
 * @param {Ended} ended
 */
export function endedBadly(running, { code, signal, error }) {
  const how = error !== undefined ? error.code : (signal ?? `exit code ${code}`);
  return new ScriptError(`${running.name} ended (${how}); its last lines are above.`, {
    lines: running.lastLines,
  });
}
