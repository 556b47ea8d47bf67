// The log: one JSON object a line on standard output. Lines of the gateway are passed on; text of workerd is put into one.

/**
 * @import { Readable } from "node:stream"
 */

// Characters of a line of workerd. Longer text is cut.
const MAX_LINE = 8_192;

/**
 * @param {"info" | "warn" | "error"} level
 * @param {string} message
 * @param {object} [more]
 */
export function log(level, message, more = {}) {
  const timestamp = new Date().toISOString();
  return process.stdout.write(`${JSON.stringify({ timestamp, level, source: "serve", message, ...more })}\n`);
}

/** @param {string} line */
function isJson(line) {
  if (!line.startsWith("{")) return false;
  try {
    JSON.parse(line);
    return true;
  } catch {
    return false;
  }
}

/**
 * Writes the lines of a process's standard error to the log. Reads no further while the log cannot be written.
 * @param {Readable} stream
 * @param {string} name
 */
export function logLines(stream, name) {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (/** @type {string} */ text) => {
    const lines = (rest + text).split("\n");
    rest = (lines.pop() ?? "").slice(0, MAX_LINE);
    for (const line of lines) if (line !== "") write(line, name);
    if (!process.stdout.writableNeedDrain) return;
    stream.pause();
    process.stdout.once("drain", () => stream.resume());
  });
  stream.on("end", () => {
    if (rest !== "") write(rest, name);
  });
}

/**
 * @param {string} line
 * @param {string} name
 */
function write(line, name) {
  if (isJson(line)) process.stdout.write(`${line}\n`);
  else log("error", line.slice(0, MAX_LINE), { source: "workerd", process: name });
}
