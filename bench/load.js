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
  const report = JSON.parse(stdout.trim().split("\n").at(-1));
  if (Object.values(report.failed).some((count) => count > 0))
    throw new Error(`of ${report.requests} requests some failed: ${JSON.stringify(report.failed)}`);
  return {
    rate: (report.requests * 1e6) / report.us,
    p50: report.p50,
    p99: report.p99,
    requests: report.requests,
    refused: report.refused,
  };
}
