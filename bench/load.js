// Runs wrk with a number of connections for some seconds, the tokens of a file, and bodies of a size.

import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

import { ROOT } from "../scripts/lib/paths.js";

const run = promisify(execFile);

// Resolves with { rate, p50, p99, requests, refused } in requests per second and microseconds.
export async function load(url, file, { connections, seconds, upload = 0 }) {
  const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s"];
  const script = join(ROOT, "bench", "load.lua");
  const { stdout } = await run("wrk", [...args, "-s", script, url, "--", file, String(upload)]);
  const told = JSON.parse(stdout.trim().split("\n").at(-1));
  if (Object.values(told.failed).some((count) => count > 0))
    throw new Error(`of ${told.requests} requests some failed: ${JSON.stringify(told.failed)}`);
  return {
    rate: (told.requests * 1e6) / told.us,
    p50: told.p50,
    p99: told.p99,
    requests: told.requests,
    refused: told.refused,
  };
}
