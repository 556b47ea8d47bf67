// A reporter for node:test that writes one JSON line per test: its name with the names of the enclosing
// groups, whether it passed, and why not. Groups are not counted unless a group itself fails (in a
// hook). The duration of each test or group at the top level of a file is a line of its own.

import { isAbsolute } from "node:path";

/** @param {AsyncIterable<any>} source */
export default async function* report(source) {
  /** @type {string[]} */
  const names = [];
  for await (const { type, data } of source) {
    if (type === "test:start") {
      names.length = data.nesting;
      names[data.nesting] = data.name;
      continue;
    }
    if (type === "test:diagnostic" && data.nesting > 0) {
      yield `${JSON.stringify({ type: "output", text: data.message })}\n`;
      continue;
    }
    if (type === "test:stderr" || type === "test:stdout") {
      yield `${JSON.stringify({ type: "output", text: data.message })}\n`;
      continue;
    }
    if (type !== "test:pass" && type !== "test:fail") continue;
    if (data.nesting === 0 && data.file !== undefined)
      yield `${JSON.stringify({ type: "time", file: data.file, ms: data.details?.duration_ms ?? 0 })}\n`;
    const isGroup = data.details?.type === "suite";
    const name = [...names.slice(0, data.nesting), data.name].join(" › ");
    if (type === "test:pass") {
      if (isGroup && data.skip === undefined) continue;
      // node:test reports a file without tests as a passed test named by its path.
      if (data.nesting === 0 && isAbsolute(data.name)) {
        yield `${JSON.stringify({ type: "fail", name, error: "the file holds no test" })}\n`;
        continue;
      }
      yield `${JSON.stringify({ type: "pass", name, skip: data.skip, ms: data.details?.duration_ms })}\n`;
      continue;
    }
    const error = data.details?.error;
    if (error?.failureType === "subtestsFailed") continue;
    const cause = error?.cause;
    const text = cause?.stack ?? (cause === undefined ? error?.message : String(cause));
    yield `${JSON.stringify({ type: "fail", name, error: text, ms: data.details?.duration_ms })}\n`;
  }
}
