// When a script is told to end: by a signal, or because the npm that ran it is gone.

// Exit codes of a script that was cut short, as a shell counts them.
export const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

const PARENT_MS = 500;

// Calls `onEnd(exitCode)` the first time and `onAgain` after that. A killed npm tells
// nobody, so its disappearance is looked for; a script that was started by hand may
// well outlive its shell.
export function listenForEnd(onEnd, onAgain = () => {}) {
  let isEnding = false;
  const end = (code) => {
    if (isEnding) return onAgain();
    isEnding = true;
    return onEnd(code);
  };
  for (const [signal, code] of Object.entries(SIGNALS)) process.on(signal, () => end(code));
  // The terminal may be gone before we are.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  if (process.env.npm_lifecycle_event !== undefined) {
    const parent = process.ppid;
    const timer = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(timer);
      end(SIGNALS.SIGTERM);
    }, PARENT_MS);
    timer.unref();
  }
}
