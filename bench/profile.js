// Where CPU time goes, by Linux's perf: a share for each category of code.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";

/** With these, perf knows the functions that V8 compiles. */
export const PROFILE_FLAGS = ["--perf-basic-prof"];

const A_SECOND = 4999;

/**
 * By the program or library, and the function; the first that matches. The last matches all.
 * @type {[string, RegExp][]}
 */
const CATEGORIES = [
  ["system", /^\[kernel/],
  ["wasm", /-(liftoff|turbofan)$|wasm-to-js|js-to-wasm|Builtins_Wasm|Builtins_JSToWasm/],
  ["JavaScript", /^(\[JIT\]|perf-|jitted-)|Builtins_/],
  ["memory", /tcmalloc|TCMalloc|operator (new|delete)|cppgc|Scaveng|Heap|MarkCompact|Sweep|GlobalHandles|Persistent/],
  ["signatures", /bssl|\b(bn|BN|EVP|RSA|ec|ge|fe|sha\d+|SHA\d+)_|x25519|p256/],
  ["V8", /v8::|icu_|ada_/],
  ["HTTP and events", /hyper|http::|tokio|kj::|kj_|capnp|futures_/],
  ["Workers API", /workerd/],
  ["other", /(?:)/],
];

/** The names of the categories. */
export const categoryNames = CATEGORIES.map(([name]) => name);

/** Returns why nothing can be profiled. */
export function missingPerf() {
  const works = spawnSync("perf", ["record", "-o", "/dev/null", "--", "true"]).status === 0;
  return works ? undefined : "no perf (Debian: apt install linux-perf)";
}

/**
 * Profiles processes while `work` runs. Resolves with the share of each category for each list of processes.
 * @param {string} file for perf's samples
 * @param {number[][]} processes
 * @param {() => Promise<unknown>} work
 */
export async function measureShares(file, processes, work) {
  const args = ["record", "-F", String(A_SECOND), "-p", processes.flat().join(","), "-o", file];
  const perf = spawn("perf", args, { stdio: "ignore" });
  const ended = once(perf, "exit");
  try {
    await work();
  } finally {
    perf.kill("SIGINT");
    await ended;
  }
  const report = ["report", "-i", file, "--sort", "pid,dso,symbol", "--stdio", "-t", "\t"];
  const { stdout } = spawnSync("perf", report, { encoding: "utf8", maxBuffer: 2 ** 28 });
  return processes.map((pids) => sharesOf(stdout, pids));
}

/**
 * Returns the share of each category in a report of lines with percentage, process, program and function.
 * @param {string} report
 * @param {number[]} pids
 */
export function sharesOf(report, pids) {
  const shares = Object.fromEntries(categoryNames.map((name) => [name, 0]));
  let sum = 0;
  for (const line of report.split("\n")) {
    const [percent, command, program, symbol] = line.split("\t").map((cell) => cell.trim());
    if (line.startsWith("#") || symbol === undefined || !pids.includes(Number.parseInt(command, 10))) continue;
    const name = symbol.replace(/^\[.\] /, "");
    const isOf = ([, pattern]) => pattern.test(program) || pattern.test(name);
    shares[CATEGORIES.find(isOf)[0]] += Number.parseFloat(percent);
    sum += Number.parseFloat(percent);
  }
  return Object.fromEntries(categoryNames.map((name) => [name, shares[name] / sum]));
}
