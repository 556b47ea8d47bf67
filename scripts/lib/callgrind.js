// Counts the instructions of each case of benches/counts.rs with valgrind's callgrind: builds them,
// runs them, and keeps the counts in bench/counts.json.

import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { LOCKED, buildExecutables, runCommand } from "./cargo.js";
import { compare, instructions, median, whyNotComparable } from "./instruction-counts.js";
import { ROOT, TARGET } from "./paths.js";
import { outputOf } from "./prerequisites.js";
import { ScriptError } from "../../cli/lib/errors.js";

/**
 * @import { Work } from "./cargo.js"
 * @import { Counts } from "./instruction-counts.js"
 */

const KEPT = join(ROOT, "bench", "counts.json");

// callgrind's files of the last runs, for callgrind_annotate.
const FOLDER = join(TARGET, "counts");

// Only calls of this function of benches/counts.rs are counted. Start-up varies more than a case
// does, and is left out.
const COUNTED = "*counted_runs*";

// Runs of a case in one process.
const RUNS = 500;

// Processes for each case, whose median is taken. Within one process a count is exact. Between
// processes the seed of std's hash maps differs, and with it the order in which the routes are put
// into their tree: up to 0.5 %.
const PROCESSES = 3;

/** Returns why nothing can be counted here, or undefined. */
export async function whyNoValgrind() {
  if ((await outputOf("valgrind", ["--version"])) !== undefined) return undefined;
  return "valgrind is not installed (Debian: apt install valgrind)";
}

async function conditions() {
  const [rustc, verbose, libc] = await Promise.all([
    outputOf("rustc", ["--version"]),
    outputOf("rustc", ["-vV"]),
    // malloc and memcpy are part of every count.
    outputOf("getconf", ["GNU_LIBC_VERSION"]),
  ]);
  return { rustc, host: /^host: (.+)$/m.exec(verbose ?? "")?.[1], libc: libc ?? "not glibc" };
}

const readKept = () => JSON.parse(readFileSync(KEPT, "utf8"));

/** Returns why counts of this machine cannot be compared with those kept, or undefined. */
export async function whyNoComparison() {
  return whyNotComparable(readKept().taken_with, await conditions());
}

/** @param {Counts} found */
export const compareWithKept = (found) => compare(readKept().instructions, found);

/** @param {Counts} found */
export async function keep(found) {
  writeFileSync(KEPT, `${JSON.stringify({ taken_with: await conditions(), instructions: found }, null, 2)}\n`);
}

/**
 * Builds the counted cases and resolves with the path of the program.
 * @param {Work} [options]
 */
export async function buildCounts({ processes, onProgress } = {}) {
  const { counts } = await buildExecutables(
    ["--release", "--package", "portcullis", "--bench", "counts", "--target-dir", TARGET, ...LOCKED],
    {
      // Personal compiler flags, such as those for one CPU, change the counts.
      env: { CARGO_ENCODED_RUSTFLAGS: "" },
      processes,
      onProgress,
      failure: "The counted cases do not compile",
    },
  );
  if (counts === undefined) throw new ScriptError("Cargo reports no executable for the counted cases.");
  return counts;
}

/**
 * Resolves with the instructions of each case.
 * @param {string} program
 * @param {Work} [options]
 */
export async function count(program, { processes, onProgress = () => {} } = {}) {
  const names = (await runCommand(program, [], { processes, failure: "The cases cannot be listed" }))
    .trim()
    .split("\n");
  mkdirSync(FOLDER, { recursive: true });
  /** @type {Counts} */
  const found = {};
  for (const [index, name] of names.entries()) {
    onProgress(`${index + 1}/${names.length} ${name}`);
    const counts = [];
    for (let run = 0; run < PROCESSES; run += 1) counts.push(await countOnce(program, name, { processes }));
    found[name] = median(counts);
  }
  return found;
}

/**
 * @param {string} program
 * @param {string} name
 * @param {Work} options
 */
async function countOnce(program, name, { processes }) {
  const file = join(FOLDER, `${name}.callgrind`);
  // An earlier run's file must not be read as this one's.
  rmSync(file, { force: true });
  // The path of the program and the environment shift its heap, and the cost of copying depends on
  // alignment: up to 0.6 %. So the path has the same length in every checkout, and the environment is empty.
  await runCommand(
    "env",
    [
      ...["-i", `PATH=${process.env.PATH}`, "valgrind", "--tool=callgrind"],
      ...[`--callgrind-out-file=${file}`, `--toggle-collect=${COUNTED}`],
      ...[`./${basename(program)}`, name, String(RUNS)],
    ],
    { cwd: dirname(program), processes, failure: `${name} cannot be counted` },
  );
  return instructions(readFileSync(file, "utf8"), RUNS);
}
