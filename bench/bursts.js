// CPU time per request, in short bursts that alternate between the servers: a machine that slows down for a moment
// slows all of them. wrk's rounds of seconds compare throughput, and are less exact by far.

import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { connect } from "node:net";
import { availableParallelism } from "node:os";

import { median } from "../scripts/lib/instruction-counts.js";

const CONNECTIONS = 16;
const WARM = 10_000;
const A_WARM_UP = 1000;
const A_BURST = 50;

/**
 * What a request has besides its path and token. `headersOf` returns further lines of its head.
 * @typedef {object} Form
 * @property {string} [body] of a PUT
 * @property {string} [scheme] of `Authorization`
 * @property {(method: string, path: string, token: string) => string[]} [headersOf]
 */

/**
 * Measures servers that run, each { url, file, pids, status, form }: `status` is that of its answers, and `form` what its
 * requests have besides the paths and tokens of `file`. Resolves with the CPU microseconds of each, the median of all
 * bursts, and their ratio to the first server's, the median of the ratios of one turn.
 * @param {{ url: string, file: string, pids: () => number[], status: string, form?: Form }[]} servers
 * @param {{ bursts: number, note: (text: string) => void }} options
 */
export async function measureBursts(servers, { bursts, note }) {
  const running = [];
  try {
    for (const { url, file, pids, status, form } of servers) {
      const lines = readFileSync(file, "utf8").trim().split("\n");
      const one = { status, sockets: [], pids: pids(), samples: [], used: 0, turn: 0, lines, form };
      running.push(one);
      // On a core of their own, servers are disturbed less by the client.
      if (availableParallelism() > 1) [...one.pids.map((pid) => [pid, 0]), [process.pid, 1]].forEach(pin);
      for (let i = 0; i < CONNECTIONS; i += 1) one.sockets.push(await open(url));
    }
    // Together, so that none has more time for V8's second compiler than another.
    for (let warmed = 0; warmed < WARM; warmed += A_WARM_UP) for (const one of running) await burst(one, A_WARM_UP);
    for (const one of running) one.used = cpuNs(one.pids);
    for (let turn = 1; turn <= bursts; turn += 1) {
      note(`turn ${turn} of ${bursts}`);
      // Each turn begins with another one, and every second goes backwards: a server also pays for the caches that the one before
      // it has left.
      const begin = turn % running.length;
      const order = [...running.slice(begin), ...running.slice(0, begin)];
      for (const one of turn % 2 === 0 ? order : order.reverse()) {
        await burst(one, A_BURST);
        // Since the last burst's end, so that work behind the last answers is counted.
        const used = cpuNs(one.pids);
        one.samples.push((used - one.used) / A_BURST / 1000);
        one.used = used;
      }
    }
  } finally {
    for (const socket of running.flatMap(({ sockets }) => sockets)) socket.destroy();
  }
  const first = running[0].samples;
  return running.map(({ samples }) => ({
    cpuUs: median(samples),
    ratio: median(samples.map((sample, turn) => sample / first[turn])),
  }));
}

// Without taskset, or with other cores, the figures are less exact.
function pin([pid, core]) {
  spawnSync("taskset", ["-acp", String(core), String(pid)]);
}

// Returns the CPU time of processes in nanoseconds, from the first field of schedstat (Linux).
function cpuNs(pids) {
  let sum = 0;
  for (const pid of pids)
    for (const thread of readdirSync(`/proc/${pid}/task`))
      sum += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
  return sum;
}

/**
 * Returns the head of a request, and its body if it has one.
 * @param {string} line "path token"
 * @param {Form} [form]
 */
export function writeRequest(line, { body, scheme = "Bearer", headersOf = () => [] } = {}) {
  const [path, token] = line.split(" ");
  const method = body === undefined ? "GET" : "PUT";
  const head = [
    `${method} ${path} HTTP/1.1`,
    "Host: gateway.test",
    `Authorization: ${scheme} ${token}`,
    ...headersOf(method, path, token),
    ...(body === undefined ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
  ];
  const written = `${head.join("\r\n")}\r\n\r\n`;
  return body === undefined ? [written] : [written, body];
}

// Sends so many requests over all sockets, one at a time on each. They are written before the first one is sent, so
// that the servers do not wait for the client's signatures.
function burst(one, count) {
  const requests = Array.from({ length: count }, () => {
    one.turn = (one.turn + 1) % one.lines.length;
    return writeRequest(one.lines[one.turn], one.form);
  });
  let sent = 0;
  let answered = 0;
  return new Promise((resolve, reject) => {
    const next = (socket) => {
      if (sent === count) return;
      for (const part of requests[sent]) socket.write(part);
      sent += 1;
    };
    for (const socket of one.sockets) {
      if (socket.destroyed) return reject(new Error("a server closed a connection"));
      socket.answered = (status) => {
        if (status !== one.status) return reject(new Error(`a server answered ${status}`));
        answered += 1;
        if (answered === count) resolve(undefined);
        else next(socket);
      };
      socket.failed = reject;
      next(socket);
    }
  });
}

/** @returns {Promise<any>} */
async function open(url) {
  const { port, hostname } = new URL(url);
  /** @type {any} */
  const socket = connect(Number(port), hostname).setNoDelay();
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  let text = "";
  socket.on("error", (error) => socket.failed?.(error));
  socket.on("close", () => socket.failed?.(new Error("a server closed a connection")));
  socket.on("data", (bytes) => {
    text += bytes.toString("latin1");
    const end = text.indexOf("\r\n\r\n") + 4;
    if (end < 4) return;
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text)?.[1] ?? 0);
    if (text.length < end + length) return;
    const [, status] = text.split(" ", 2);
    text = "";
    socket.answered(status);
  });
  return socket;
}
