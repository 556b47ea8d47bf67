// Runs the project's scripts as a user would, in a separate process.

import { spawn } from "node:child_process";
import { join } from "node:path";

import { ROOT } from "../../scripts/lib/paths.js";
import { openLog } from "./run.js";
import { until } from "./wait.js";

/**
 * Starts `node scripts/NAME.js ARGS`, or with `npm` `npm run NAME -- ARGS` in its own process group, as a
 * terminal does. `root` is the checkout, `input` the text on standard input. Returns
 * { child, out(), err(), says(pattern), ended }.
 * @param {string} name
 * @param {string[]} [args]
 * @param {{ env?: NodeJS.ProcessEnv, scope?: import("./scope.js").Scope, npm?: boolean, root?: string, input?: string }} [options]
 */
export function runScript(name, args = [], { env = {}, scope, npm = false, root = ROOT, input = "" } = {}) {
  const [command, ...first] = npm
    ? ["npm", "run", name, "--"]
    : [process.execPath, join(root, "scripts", `${name}.js`)];
  const child = spawn(command, [...first, ...args], {
    cwd: root,
    env: { ...process.env, CI: "true", ...env },
    detached: npm,
  });
  // A script that reads nothing may end first.
  child.stdin.on("error", () => {}).end(input);
  const log = openLog(`script-${name}`);
  const output = { out: "", err: "" };
  for (const [key, stream] of Object.entries({ out: child.stdout, err: child.stderr })) {
    stream.setEncoding("utf8").on("data", (text) => {
      output[key] += text;
      log.write(text);
    });
  }
  const running = {
    child,
    out: () => output.out,
    err: () => output.err,
    hasEnded: false,
    ended: new Promise((resolve) => {
      child.once("close", (code, signal) => {
        running.hasEnded = true;
        log.end(() => resolve({ code, signal, out: output.out, err: output.err }));
      });
    }),
    // Resolves with the match when the script has printed it.
    says: (pattern, boundMs) =>
      until(
        `${name} says ${pattern}`,
        () => {
          const found = pattern.exec(output.out);
          if (found === null && running.hasEnded) throw new Error(`it ended: ${output.out}${output.err}`);
          return found;
        },
        boundMs,
      ),
  };
  scope?.after(async () => {
    if (!running.hasEnded) child.kill("SIGTERM");
    await running.ended;
  });
  return running;
}
