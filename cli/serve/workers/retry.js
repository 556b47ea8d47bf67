// Calls of the owner process, which may be restarting: the supervisor starts it within a second.

// Milliseconds before each further attempt. The gateway limits the whole call.
const PAUSES_MS = [20, 50, 100, 200, 400, 800];

/**
 * Sends a request whose body, if it has one, is a text. Repeats it after a failed connection, until its signal ends it:
 * pushes, counts and reads may be repeated.
 * @param {Fetcher} owner
 * @param {string} url
 * @param {RequestInit} init
 */
export async function ask(owner, url, init) {
  const signal = init.signal ?? undefined;
  for (const pause of PAUSES_MS) {
    try {
      return await owner.fetch(url, init);
    } catch {
      await scheduler.wait(pause, { signal });
    }
  }
  return owner.fetch(url, init);
}
