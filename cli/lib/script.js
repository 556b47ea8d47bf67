// The main function of a script that starts processes: they end with it.

import { runMain } from "./errors.js";
import { createProcesses } from "./processes.js";
import { listenForEnd } from "./signals.js";

/** @import { Processes } from "./processes.js" */

/**
 * Runs a script's main function. Its processes are stopped on the first signal, after which the script
 * exits, and killed on the second.
 * @param {(args: string[], processes: Processes) => unknown} main
 * @param {{ onEnd?: () => void }} [options] `onEnd` is called on the first signal
 */
export async function runScript(main, { onEnd = () => {} } = {}) {
  const processes = createProcesses();
  listenForEnd(
    async (code) => {
      onEnd();
      await processes.stopAll();
      process.exit(code);
    },
    () => processes.killAll(),
  );
  await runMain((args) => main(args, processes));
  // After a failure, steps that ran in parallel may still have processes.
  await processes.stopAll();
}
