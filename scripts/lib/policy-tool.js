// The program that checks policies with the worker's own code (policy/): built when it is
// needed, and run.

import { spawnSync } from "node:child_process";
import { join } from "node:path";

import { runCargo } from "./cargo.js";
import { ROOT, TARGET } from "./paths.js";

const TOOL = join(TARGET, "debug", "portcullis-policy");

// Where the tool is, built if it is not.
export async function compilePolicyTool({ processes, onProgress } = {}) {
  const locked = process.env.CI ? ["--locked"] : [];
  await runCargo(["build", "--package", "portcullis-policy-cli", "--target-dir", TARGET, ...locked], {
    processes,
    onProgress,
    failure: "The policy's checker does not compile",
  });
  return TOOL;
}

// Runs it with the terminal's own output; gives its exit code.
export function runPolicyTool(args) {
  return spawnSync(TOOL, args, { cwd: ROOT, stdio: "inherit" }).status ?? 1;
}

// Checks a file and gives the JSON that the worker reads, or undefined when there are
// mistakes, which it has printed.
export function compilePolicy(file) {
  const { status, stdout } = spawnSync(TOOL, ["--file", file, "compile"], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "inherit"],
  });
  return status === 0 ? stdout.trim() : undefined;
}
