// Throughput of `portcullis serve` with one and with several edge processes, in bursts by turns: `npm run bench:serve`. The
// load generator and the origin use the same cores, so the gain is less than that of a machine of its own.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { readArguments, usage, wholeNumber } from "../cli/lib/arguments.js";
import { splitLines } from "../cli/lib/commands.js";
import { ScriptError } from "../cli/lib/errors.js";
import { runScript } from "../cli/lib/script.js";
import { buildEdge } from "../scripts/lib/edge-build.js";
import { BUILD, ROOT } from "../scripts/lib/paths.js";
import { makeAssertionKey } from "../tests/harness/assertion.js";
import { load } from "./load.js";
import { startOrigin } from "./servers.js";
import { createKey, writeTokens } from "./tokens.js";

const HELP = usage("npm run bench:serve", [
  ["", "compares 1 and 2 processes; needs wrk and nginx"],
  ["--processes N", "compares 1 and N processes"],
  ["--bursts N", "pairs of bursts (5)"],
  ["--help", "shows this"],
]);

const CONNECTIONS = 32;
const SECONDS = 5;
const TOKENS = 1_000;

const median = (values) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];

/** Starts the command. Resolves with { url, stop } once it is ready. */
function start(folder, processes, env) {
  const args = ["serve", "--worker", BUILD, "--config", join(ROOT, "wrangler.toml"), "--development"];
  const more = [
    "--listen",
    "127.0.0.1:0",
    "--state",
    join(folder, `state-${processes}`),
    "--processes",
    String(processes),
  ];
  const child = spawn(process.execPath, [join(ROOT, "cli", "bin", "portcullis.js"), ...args, ...more], {
    cwd: folder,
    env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  const exited = new Promise((resolve) => child.once("exit", resolve));
  const stop = () => {
    child.kill("SIGTERM");
    return exited;
  };
  return new Promise((resolve, reject) => {
    splitLines(child.stdout, (line) => {
      const ready = /"message":"ready".*"port":(\d+)/.exec(line);
      if (ready !== null) resolve({ url: `http://127.0.0.1:${ready[1]}`, stop });
    });
    child.once("exit", (code) => reject(new ScriptError(`portcullis serve ended with ${code}.`)));
  });
}

await runScript(async (args, processes) => {
  const { values } = readArguments(args, {
    command: "npm run bench:serve",
    options: {
      processes: { type: "string", parse: wholeNumber(64) },
      bursts: { type: "string", parse: wholeNumber(100) },
    },
  });
  if (values.help) return console.log(HELP);
  const counts = [1, values.processes ?? 2];
  await buildEdge({ profile: process.env.EDGE_PROFILE ?? "worker", processes });
  const folder = mkdtempSync(join(tmpdir(), "portcullis-bench-serve-"));
  const ends = [];
  try {
    const key = createKey("ES256");
    const origin = await startOrigin(folder, key.jwks);
    ends.push(() => origin.stop());
    const file = await writeTokens(folder, "tokens", { key, count: TOKENS });
    const env = {
      ...process.env,
      UPSTREAM_AUTH_URL: origin.url,
      UPSTREAM_USERS_URL: origin.url,
      ASSERTION_KEYS_AUTH: makeAssertionKey(),
      ASSERTION_KEYS_USERS: makeAssertionKey(),
    };
    const servers = [];
    for (const count of counts) {
      const server = await start(folder, count, env);
      ends.push(server.stop);
      servers.push({ ...server, count, rates: [], p50: [], p99: [] });
    }
    // The first burst of each only warms up.
    for (let burst = 0; burst <= (values.bursts ?? 5); burst += 1) {
      for (const { url, rates, p50, p99 } of servers) {
        const result = await load(url, file, { connections: CONNECTIONS, seconds: SECONDS });
        if (burst === 0) continue;
        rates.push(result.rate);
        p50.push(result.p50);
        p99.push(result.p99);
      }
    }
    for (const { count, rates, p50, p99 } of servers) {
      const times = `p50 ${(median(p50) / 1000).toFixed(1)} ms, p99 ${(median(p99) / 1000).toFixed(1)} ms`;
      console.log(`${count} process${count === 1 ? "" : "es"}: ${Math.round(median(rates))} requests/s, ${times}`);
    }
    const [one, several] = servers;
    const ratio = median(several.rates.map((rate, index) => rate / one.rates[index]));
    return console.log(`${several.count} to ${one.count}: ${ratio.toFixed(2)} (median of pairs)`);
  } finally {
    for (const end of ends.reverse()) await end();
    rmSync(folder, { recursive: true, force: true });
  }
});
