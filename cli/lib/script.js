// The main function of a script that starts processes: they end with it.

import { runMain } from "./errors.js";
import { createProcesses } from "./processes.js";
import { listenForEnd } from "./signals.js";

/** @import { Processes } from "./processes.js" */

/**
 * Runs a script's main function. Its processes are stopped on the first signal, after which the script
 * exits, and killed on the second.
 * @param {(args: string[], processes: Processes) => unknown} main
 * @param {{ onEnd?: () => void, isServing?: () => boolean }} [options] `onEnd` is called on the first signal; a signal
 * to a script that serves is no failure
 */
export async function runScript(main, { onEnd = () => {}, isServing = () => false } = {}) {
  const processes = createProcesses();
  listenForEnd(
    async (code) => {
      onEnd();
      await processes.stopAll();
      process.exit(isServing() ? 0 : code);
    },
    () => processes.killAll(),
  );
  await runMain((args) => main(args, processes));
  // After a failure, steps that ran in parallel may still have processes.
  await processes.stopAll();
}
