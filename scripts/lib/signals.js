// When a script is told to end: by a signal, or because the npm that ran it is gone.

// Exit codes of a script that was cut short, as a shell counts them.
export const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

const PARENT_MS = 500;

// Milliseconds after the first signal in which others are part of it. For one Ctrl-C the
// terminal signals npm and the script, and npm passes its own on to the script.
const REPEAT_MS = 1_500;

let isBeingEnded = false;

// Whether this script was told to end: what fails from then on was ended by it.
export const isEnding = () => isBeingEnded;

// Calls `onEnd(exitCode)` for the first signal and `onAgain()` for one that comes later
// than REPEAT_MS. A killed npm sends no signal, so its disappearance is looked for; it
// ends a script, and never counts as a second signal. A script that was started by hand
// may outlive its shell.
export function listenForEnd(onEnd, onAgain = () => {}, { now = () => performance.now() } = {}) {
  let endedAt;
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
  // The terminal may be gone before we are.
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
