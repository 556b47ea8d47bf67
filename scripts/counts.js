// `npm run counts`: counts the instructions of the gateway's hot functions and compares them with
// bench/counts.json. With --write, writes them there.

import { readArguments } from "../cli/lib/arguments.js";
import { MOST_OFF, render } from "./lib/instruction-counts.js";
import { buildCounts, compareWithKept, count, keep, whyNoComparison, whyNoValgrind } from "./lib/callgrind.js";
import { runScript } from "../cli/lib/script.js";
import { createProgress } from "../cli/lib/progress.js";
import { EXIT_USAGE, ScriptError } from "../cli/lib/errors.js";

const HELP = `npm run counts                     counts the instructions of each case and compares them
npm run counts -- --write          writes the counts to bench/counts.json
npm run counts -- --help           shows this

A case that deviates by more than ${MOST_OFF * 100} % fails. Needs valgrind (Debian: apt install valgrind).
The cases are in benches/cases/mod.rs. To measure their durations: cargo bench --bench gate. To list the
instructions of a case by function:
  callgrind_annotate --inclusive=yes target/counts/CASE.callgrind`;

await runScript(async (args, processes) => {
  const { values } = readArguments(args, { command: "npm run counts", options: { write: { type: "boolean" } } });
  if (values.help) return console.log(HELP);
  const why = await whyNoValgrind();
  if (why !== undefined) throw new ScriptError(`${why}.`, { code: EXIT_USAGE });
  const progress = createProgress();
  const program = await progress.run("compile the counted cases", (note) =>
    buildCounts({ processes, onProgress: note }),
  );
  const found = await progress.run("count instructions", (note) => count(program, { processes, onProgress: note }));
  progress.close();
  const rows = compareWithKept(found);
  console.log(render(rows));
  if (values.write) return keep(found);
  const whyNot = await whyNoComparison();
  if (whyNot !== undefined) return console.log(`\nNot compared: ${whyNot}.`);
  const problems = rows.flatMap(({ problem }) => problem ?? []);
  if (problems.length === 0) return undefined;
  throw new ScriptError(`${problems.length} of ${rows.length} cases deviate from bench/counts.json.`, {
    lines: problems,
  });
});
