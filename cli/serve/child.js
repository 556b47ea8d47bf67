// The supervising process: gets the listening socket as a descriptor and the settings as a message.

import { ScriptError } from "../lib/errors.js";
import { log } from "./log.js";
import { supervise } from "./supervisor.js";

/** @param {unknown} error */
function fail(error) {
  const lines = error instanceof ScriptError ? error.lines : [];
  for (const line of lines) console.error(line);
  log("error", error instanceof ScriptError ? error.message : String(error));
  process.exit(error instanceof ScriptError ? error.code : 1);
}

process.once("message", async (settings) => {
  /** @type {Awaited<ReturnType<typeof supervise>> | undefined} */
  let running;
  let isEnding = false;
  const stop = async () => {
    if (isEnding) return;
    isEnding = true;
    // Before the first answer there is nothing to wait for; the watchdog kills what was started.
    await running?.stop();
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, stop);
  process.on("SIGHUP", () => running?.reload());
  // The listening process has gone.
  process.on("disconnect", stop);
  try {
    running = await supervise(/** @type {any} */ (settings));
    process.send?.("ready");
  } catch (error) {
    fail(error);
  }
});
