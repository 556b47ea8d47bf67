// Starts release builds of the services with users and sessions, and sends what the gateway would send.
// Assertions are signed shortly before use: one is valid for 30 seconds, any number of times.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { runCommand } from "../scripts/lib/cargo.js";
import { ROOT } from "../scripts/lib/paths.js";
import { probePort } from "../cli/lib/ports.js";
import { startPostgres } from "../scripts/lib/postgres.js";
import { ensureSecrets } from "../scripts/lib/secrets.js";
import { waitUntilReady } from "../cli/lib/readiness.js";
import { describeServices, startService } from "../scripts/lib/services.js";
import { makeAssertion } from "../tests/harness/assertion.js";
import { usage } from "./servers.js";

const PASSWORD = "correct horse battery staple";

// Accounts for logins, and for other requests. An account keeps a hundred sessions; beyond that, each login
// would also end the oldest one.
const LOGINS = 128;
const READERS = 32;
const SESSIONS_EACH = 8;

// Few password hashes run at a time; more requests would only wait.
const AT_ONCE = 4;

// The discard port, on which nothing listens: nothing is revoked here.
const NO_EDGE = "http://127.0.0.1:9";

// Starts the two services on a kind of database. Resolves with { load, login, stop }.
export async function startStack(kind, { binary, folder, processes, note }) {
  note("starting the services");
  const databases = kind === "postgres" ? await startDatabases(processes) : { env: {}, stop: async () => {} };
  const ports = { auth: await probePort(0), users: await probePort(0), edge: 9 };
  const secrets = ensureSecrets(folder);
  const described = describeServices({ data: folder, ports, secrets, env: { ...process.env, ...databases.env } });
  const running = {};
  for (const name of ["auth", "users"]) {
    const service = described[name];
    // Log lines are written to a file: reading them would load the measured cores.
    const quiet = { ...service, command: "sh", args: ["-c", 'exec "$0" "$@" >/dev/null', binary, ...service.args] };
    quiet.env = { ...service.env, EDGE_URL: NO_EDGE };
    running[name] = startService(processes, quiet, { logs: join(folder, "logs") });
  }
  for (const name of ["auth", "users"]) await waitUntilReady(described[name], running[name]);

  const keys = { auth: secrets.env.ASSERTION_KEYS_AUTH, users: secrets.env.ASSERTION_KEYS_USERS };
  const vouch = (aud, htm, htu, who = {}) => makeAssertion(keys[aud], { aud, htm, htu, ...who });
  const post = async (path, body) => {
    const headers = { "content-type": "application/json", "x-gateway-assertion": await vouch("auth", "POST", path) };
    const answer = await fetch(described.auth.url + path, { method: "POST", headers, body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path} answered ${answer.status}: ${await answer.text()}`);
    return /** @type {Promise<any>} */ (answer.json());
  };
  const login = async ({ email }) => {
    const session = await post("/api/v1/auth/login", { email, password: PASSWORD });
    const { sid } = JSON.parse(String(Buffer.from(session.access_token.split(".")[1], "base64url")));
    return { ...session, who: { sub: session.user.id, email, roles: session.user.roles, sid } };
  };

  note("registering users");
  const people = (what, count) =>
    Array.from({ length: count }, (_, index) => ({ email: `${what}-${index}@example.com` }));
  const [loggers, readers] = [people("login", LOGINS), people("reader", READERS)];
  await inTurns([...loggers, ...readers], ({ email }) =>
    post("/api/v1/auth/register", { email, password: PASSWORD, first_name: "Ada", last_name: "Lovelace" }),
  );
  note("logging the users in");
  const sessions = await inTurns(Array.from({ length: SESSIONS_EACH }, () => readers).flat(), login);
  const tokens = join(folder, "tokens.txt");
  writeFileSync(tokens, sessions.map((session) => `${session.refresh_token}\n`).join(""));

  const line = (path, assertion, authorization = "-", body = "-") =>
    `${path}\t${assertion}\t${authorization}\t${body}\n`;
  const LOADS = {
    async login() {
      const path = "/api/v1/auth/login";
      const assertion = await vouch("auth", "POST", path);
      return `POST\n${loggers.map(({ email }) => line(path, assertion, "-", JSON.stringify({ email, password: PASSWORD }))).join("")}`;
    },
    async refresh() {
      const path = "/api/v1/auth/refresh";
      return `refresh\n${path}\t${await vouch("auth", "POST", path)}\n${readFileSync(tokens, "utf8")}`;
    },
    // A new login each time: access tokens are valid for 15 minutes.
    async validate() {
      const path = "/api/v1/auth/validate-token";
      const fresh = await inTurns(readers, login);
      const lines = fresh.map(async ({ access_token: token, who }) =>
        line(path, await vouch("auth", "GET", path, who), `Bearer ${token}`),
      );
      return `GET\n${(await Promise.all(lines)).join("")}`;
    },
    async read() {
      const lines = sessions.slice(0, READERS).map(async ({ who }) => {
        const path = `/api/v1/users/${who.sub}`;
        return line(path, await vouch("users", "GET", path, who));
      });
      return `GET\n${(await Promise.all(lines)).join("")}`;
    },
    // As a monitor asks it: without an assertion.
    health: async () => `GET\n${line("/health", "-")}`,
  };

  return {
    // Runs wrk. Resolves with { rate, p50, p99, cpuUs } in requests per second and microseconds.
    async load(what, service, { connections, seconds }) {
      const file = what === "refresh" ? `${tokens}.load` : join(folder, "load.txt");
      writeFileSync(file, await LOADS[what]());
      const args = ["-t1", `-c${connections}`, `-d${seconds}s`, "--timeout", "10s"];
      const script = join(ROOT, "bench", "origin.lua");
      const pids = [running[service].pid];
      const before = usage(pids);
      const failure = "wrk failed";
      const output = await runCommand("wrk", [...args, "-s", script, described[service].url, "--", file], {
        processes,
        failure,
      });
      const after = usage(pids);
      const report = JSON.parse(output.trim().split("\n").at(-1));
      if (report.failed > 0 || report.refused > 0 || report.requests === 0) {
        throw new Error(
          `${what}: of ${report.requests} requests ${report.failed} failed and ${report.refused} were refused`,
        );
      }
      if (what === "refresh") writeFileSync(tokens, readFileSync(file));
      return {
        rate: (report.requests * 1e6) / report.us,
        p50: report.p50,
        p99: report.p99,
        cpuUs: (after.cpuUs - before.cpuUs) / report.requests,
      };
    },
    async stop() {
      await Promise.all(Object.values(running).map((service) => service.stop()));
      await databases.stop();
    },
  };
}

// One server per service: they share no database.
async function startDatabases(processes) {
  const [auth, users] = [await startPostgres({ processes }), await startPostgres({ processes })];
  return {
    env: { AUTH_DATABASE_URL: auth.url, USERS_DATABASE_URL: users.url },
    stop: () => Promise.all([auth.stop(), users.stop()]),
  };
}

// Runs `work` for each item, a few at a time. Resolves with the results in order.
async function inTurns(items, work) {
  const done = [];
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const index = next;
      next += 1;
      done[index] = await work(items[index]);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return done;
}
