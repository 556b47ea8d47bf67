// A rate limit that the owner process counts for all edge processes. While the owner process does not answer, this process
// counts alone: a limit is then higher, and never off.

import { createCounter } from "portcullis:counter";
import { ask } from "portcullis:retry";

// Milliseconds for the owner process to count. The gateway waits longer (COUNTER_MS in src/pipeline/limits.rs).
const OWNER_MS = 800;

// Keys that this process counts at once, about 5 MB.
const MAX_KEYS = 20_000;

const counter = createCounter({ maxKeys: MAX_KEYS });

/** @param {{ owner: Fetcher, name: string, limit: string, period: string }} env */
export default ({ owner, name, limit, period }) => {
  const url = `http://owner/${name}?limit=${limit}&period=${period}`;
  const own = { limit: Number(limit), periodMs: 1000 * Number(period) };
  return {
    async limit(/** @type {{ key: string }} */ { key }) {
      const status = await count(owner, url, key);
      const isCounted = status === 200 || status === 429;
      return { success: isCounted ? status === 200 : counter.isWithin(`${name}\n${key}`, own, Date.now()) };
    },
  };
};

/**
 * Resolves with the owner's answer, or undefined.
 * @param {Fetcher} owner
 * @param {string} url
 * @param {string} key
 */
async function count(owner, url, key) {
  try {
    const signal = AbortSignal.timeout(OWNER_MS);
    const { status, body } = await ask(owner, url, { method: "POST", body: key, signal });
    await body?.cancel();
    return status;
  } catch {
    return undefined;
  }
}
