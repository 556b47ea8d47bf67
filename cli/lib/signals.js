// Ends a script on a signal, or when the npm process that started it has gone.

// Exit codes by signal, as shells report them.
export const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

const PARENT_MS = 500;

// Milliseconds after the first signal during which another one counts as the same. On Ctrl-C the
// terminal signals npm and the script, and npm forwards its signal to the script.
const REPEAT_MS = 1_500;

let isBeingEnded = false;

/** Returns whether this script is being ended: later failures are a consequence of that. */
export const isEnding = () => isBeingEnded;

/**
 * Calls `onEnd(exitCode)` on the first signal and `onAgain()` on one that comes more than REPEAT_MS
 * later. A killed npm sends no signal, so its disappearance is detected by polling: that ends the
 * script, but never counts as a second signal. A script started without npm may outlive its shell.
 * @param {(exitCode: number) => unknown} onEnd
 * @param {() => unknown} [onAgain]
 * @param {{ now?: () => number }} [options]
 */
export function listenForEnd(onEnd, onAgain = () => {}, { now = () => performance.now() } = {}) {
  /** @type {number | undefined} */
  let endedAt;
  /** @param {number} code */
  const end = (code) => {
    endedAt = now();
    isBeingEnded = true;
    return onEnd(code);
  };
  for (const [signal, code] of Object.entries(SIGNALS)) {
    process.on(signal, () => {
      if (endedAt === undefined) return end(code);
      if (now() - endedAt > REPEAT_MS) return onAgain();
    });
  }
  // The terminal may close before this process ends.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  if (process.env.npm_lifecycle_event !== undefined) {
    const parent = process.ppid;
    const timer = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(timer);
      if (endedAt === undefined) end(SIGNALS.SIGTERM);
    }, PARENT_MS);
    timer.unref();
  }
}
