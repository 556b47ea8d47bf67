// Supervises the processes of `portcullis serve`: one owner of the objects' files, and edge processes that share the
// listening socket, which this process inherits and does not read. Starts what ends, and stops all in order.

import { spawn } from "node:child_process";
import { chmodSync, mkdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { createRequire } from "node:module";
import { connect } from "node:net";
import { join } from "node:path";

import { errorCode, ScriptError } from "../lib/errors.js";
import { parseJson } from "../lib/files.js";
import { createProcesses } from "../lib/processes.js";
import { edgeSocket, OWNER_SOCKETS } from "./config.js";
import { writeGeneration } from "./generation.js";
import { log, logLines } from "./log.js";
import { readProject, readVariables } from "./settings.js";
import { takeLock } from "./state-lock.js";

/**
 * @import { ChildProcess } from "node:child_process"
 * @import { Settings } from "./settings.js"
 * @import { Generation } from "./generation.js"
 * @import { Lock } from "./state-lock.js"
 * @typedef {object} Member a process that is started again when it ends
 * @property {string} name
 * @property {() => Promise<void>} ready
 * @property {() => Promise<void>} stop
 */

// The path of the runtime.
const { default: WORKERD } = createRequire(import.meta.url)("workerd");

// Descriptor of the listening socket, here and in the edge processes.
const LISTENER = 3;

// Milliseconds until a started process must answer; a busy machine starts workerd in a few seconds.
const READY_MS = 30_000;
const POLL_MS = 25;

// Milliseconds before a process that ended is started again: doubled while it ends within STEADY_MS.
const FIRST_PAUSE_MS = 50;
const MAX_PAUSE_MS = 5_000;
const STEADY_MS = 10_000;

// Milliseconds for the owner to end once the edge processes have: no request is left then.
const OWNER_STOP_MS = 5_000;

// Milliseconds during which a predecessor, or the processes of a killed one, may still be alive.
const PREDECESSOR_MS = 10_000;

const sleep = (/** @type {number} */ ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Characters of an answer that are read: a refusal has some hundred.
const ANSWER_CHARS = 4_096;

/**
 * Resolves with the answer to GET `path`, or undefined.
 * @param {string} socketPath
 * @param {string} path
 * @returns {Promise<{ status: number, body: string } | undefined>}
 */
const ask = (socketPath, path) =>
  new Promise((resolve) => {
    const asked = request({ socketPath, path, timeout: READY_MS, headers: { host: "localhost" } }, (answer) => {
      let body = "";
      answer.setEncoding("utf8").on("data", (/** @type {string} */ text) => {
        if (body.length < ANSWER_CHARS) body += text;
      });
      answer.on("close", () => resolve({ status: answer.statusCode ?? 0, body }));
    });
    asked.on("timeout", () => asked.destroy());
    asked.on("error", () => resolve(undefined));
    asked.end();
  });

/**
 * Returns whether a process listens on a Unix socket.
 * @param {string} path
 * @returns {Promise<boolean>}
 */
const isServed = (path) =>
  new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on("error", () => resolve(false));
  });

/**
 * Starts the processes. Resolves once all answer.
 * @param {Settings} settings
 */
export async function supervise(settings) {
  // Files and sockets are the owner's alone.
  process.umask(0o077);
  const processes = createProcesses();
  const objects = join(settings.state, "objects");
  const run = join(settings.state, "run");
  for (const folder of [settings.state, objects, run]) mkdirSync(folder, { recursive: true, mode: 0o700 });
  try {
    chmodSync(settings.state, 0o700);
  } catch (error) {
    throw new ScriptError(
      `${settings.state} cannot be closed to other users (${errorCode(error)}): it must belong to the user of this process. Name a folder in it instead.`,
    );
  }
  // The paths of sockets are relative to it.
  process.chdir(run);
  const lock = await takeState(settings.state);

  // Generations take turns with two folders: the one in use is needed to start a process again.
  let [folder, other] = ["1", "2"].map((name) => join(run, name));
  let number = 0;
  let isStopping = false;
  const write = async () => {
    const project = readProject(settings.project);
    const variables = readVariables(settings, project, process.env);
    return writeGeneration(folder, { ...settings, ...project }, { ...variables, objects });
  };

  /**
   * Starts a process, and again whenever it ends before it is stopped.
   * @param {string} name
   * @param {string[]} args
   * @param {{ env: NodeJS.ProcessEnv, sockets: string[], path: string, stopMs: number, inherits?: boolean }} options
   * @returns {Member}
   */
  const start = (name, args, { env, sockets, path, stopMs, inherits = false }) => {
    /** @type {ChildProcess} */
    let child;
    let isEnded = false;
    let pause = FIRST_PAUSE_MS;
    const begin = () => {
      // A killed process leaves them.
      for (const socket of sockets) rmSync(socket, { force: true });
      const began = Date.now();
      child = spawn(WORKERD, ["serve", "--import-path=/", ...args], {
        env,
        // The gateway writes its lines itself, so no process stands between it and the log.
        stdio: ["ignore", "inherit", "pipe", ...(inherits ? [LISTENER] : [])],
        detached: true,
      });
      processes.adopt(child);
      logLines(/** @type {import("node:stream").Readable} */ (child.stderr), name);
      child.on("error", (error) => log("error", `${name} cannot be started (${errorCode(error)})`));
      child.once("exit", async (code, signal) => {
        if (isEnded) return;
        if (Date.now() - began > STEADY_MS) pause = FIRST_PAUSE_MS;
        log("error", `${name} ended and is started again`, { code, signal, pause_ms: pause });
        await sleep(pause);
        pause = Math.min(2 * pause, MAX_PAUSE_MS);
        if (!isEnded) begin();
      });
    };
    begin();
    return {
      name,
      async ready() {
        const end = Date.now() + READY_MS;
        while (Date.now() < end && !isEnded) {
          const answer = await ask(sockets[0], path);
          if (answer !== undefined && answer.status < 500) return;
          await sleep(POLL_MS);
        }
        if (!isEnded) throw new ScriptError(`${name} does not answer; the lines above say why.`);
      },
      async stop() {
        isEnded = true;
        if (child.exitCode !== null || child.signalCode !== null) return;
        const exited = new Promise((resolve) => child.once("exit", () => resolve(true)));
        child.kill("SIGTERM");
        if (await Promise.race([exited, sleep(stopMs)])) return;
        log("warn", `${name} has requests in progress after ${stopMs / 1000} s and is killed`);
        child.kill("SIGKILL");
        await exited;
      },
    };
  };

  /** @param {Generation} generation */
  const startOwner = ({ owner: file, env }) =>
    start("owner", [file], { env, sockets: OWNER_SOCKETS, path: "/ready", stopMs: OWNER_STOP_MS });

  /** @param {Generation} generation */
  const startEdges = ({ edge, env }) => {
    number += 1;
    return Array.from({ length: settings.processes }, (_, index) => {
      const name = `edge-${number}-${index}`;
      const socket = edgeSocket(name);
      const args = [edge, `--socket-fd=public=${LISTENER}`, `--socket-addr=private=unix:${socket}`];
      return start(name, args, { env, sockets: [socket], path: "/health", stopMs: settings.drainMs, inherits: true });
    });
  };

  const allReady = (/** @type {Member[]} */ members) => Promise.all(members.map((member) => member.ready()));

  /**
   * Waits for the edge processes. Their health does not depend on the settings, so that it cannot say that the gateway
   * refuses every request for one that is missing or wrong.
   * @param {Member[]} started
   */
  const edgesReady = async (started) => {
    await allReady(started);
    const answer = await ask(edgeSocket(started[0].name), "/ready");
    if (parseJson(answer?.body ?? "")?.code === "gateway_misconfigured")
      throw new ScriptError("The gateway is misconfigured; its line in the log says what to change.");
  };
  const stopAll = (/** @type {Member[]} */ members) => Promise.all(members.map((member) => member.stop()));

  const generation = await write();
  let owner = startOwner(generation);
  await owner.ready();
  let edges = startEdges(generation);
  try {
    await edgesReady(edges);
  } catch (error) {
    await stopAll([...edges, owner]);
    throw error;
  }
  log("info", "ready", { address: settings.listen.host, port: settings.listen.port, processes: edges.length });

  const replace = async () => {
    [folder, other] = [other, folder];
    /** @type {Member[]} */
    let next = [];
    /** @type {Generation} */
    let loaded;
    try {
      loaded = await write();
      next = startEdges(loaded);
      await edgesReady(next);
    } catch (error) {
      [folder, other] = [other, folder];
      const lines = error instanceof ScriptError ? error.lines : [];
      log("error", `not reloaded: ${error instanceof Error ? error.message : error}`, { lines });
      await stopAll(next);
      return;
    }
    const before = edges;
    edges = next;
    // Calls wait for an owner that is starting.
    await owner.stop();
    owner = startOwner(loaded);
    await stopAll(before);
    log("info", "reloaded", { processes: edges.length });
  };

  let reloading = Promise.resolve();
  return {
    /** Replaces the processes by a generation with the current policy, wrangler.toml, secrets and certificate. */
    reload() {
      reloading = reloading.then(() => (isStopping ? undefined : replace()));
      return reloading;
    },
    /** Ends the edge processes once their requests have ended, then the owner. */
    async stop() {
      isStopping = true;
      await reloading;
      log("info", "stopping");
      await stopAll(edges);
      await owner.stop();
      lock.release();
      log("info", "stopped");
    },
  };
}

/**
 * Takes the lock of the state folder, and waits for the owner process of a killed predecessor, which has no lock. Throws if
 * the folder stays in use.
 * @param {string} folder
 * @returns {Promise<Lock>}
 */
async function takeState(folder) {
  const end = Date.now() + PREDECESSOR_MS;
  /** @type {Lock | undefined} */
  let lock;
  for (;;) {
    lock ??= await takeLock(folder);
    if (lock !== undefined && !(await isServed(OWNER_SOCKETS[0]))) return lock;
    if (Date.now() > end) throw new ScriptError("Another portcullis serve uses this --state folder; stop it first.");
    await sleep(POLL_MS);
  }
}
