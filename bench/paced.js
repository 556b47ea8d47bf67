// Sends requests at a fixed rate, whether or not earlier ones were answered, and measures their latency.

import { readFileSync } from "node:fs";
import { Agent, request } from "node:http";

const CONNECTIONS = 32;

/**
 * Resolves with the percentiles of the latency in microseconds.
 * @param {string} url
 * @param {string} file lines of "path token"
 * @param {{ rate: number, seconds: number }} options requests per second
 */
export async function pace(url, file, { rate, seconds }) {
  const lines = readFileSync(file, "utf8").trim().split("\n");
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
  const begun = performance.now();
  const answers = [];
  for (let count = 0; count < rate * seconds; count += 1) {
    const wait = begun + (count * 1000) / rate - performance.now();
    if (wait > 0) await new Promise((resolve) => setTimeout(resolve, wait));
    const [path, token] = lines[count % lines.length].split(" ");
    answers.push(latencyOf(new URL(path, url), { agent, headers: { authorization: `Bearer ${token}` } }));
  }
  const sorted = (await Promise.all(answers)).sort((a, b) => a - b);
  agent.destroy();
  const at = (share) => sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)];
  return { p50: at(0.5), p99: at(0.99) };
}

function latencyOf(url, options) {
  return new Promise((resolve, reject) => {
    const sent = performance.now();
    request(url, options, (answer) => {
      if (answer.statusCode !== 200) reject(new Error(`status ${answer.statusCode} at a fixed rate`));
      answer.resume().once("end", () => resolve((performance.now() - sent) * 1000));
    })
      .once("error", reject)
      .end();
  });
}
