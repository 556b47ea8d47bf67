// A reporter for node:test that writes one JSON line per test: its name with the names of the enclosing
// groups, whether it passed, and why not. Groups are not counted unless a group itself fails (in a
// hook). The duration of each test or group at the top level of a file is a line of its own.

import { isAbsolute } from "node:path";

/** @param {AsyncIterable<any>} source */
export default async function* report(source) {
  /** @type {string[]} */
  const names = [];
  for await (const { type, data } of source) {
    if (type === "test:start") names.splice(data.nesting, Infinity, data.name);
    else if (type === "test:stderr" || type === "test:stdout" || (type === "test:diagnostic" && data.nesting > 0))
      yield line({ type: "output", text: data.message });
    else if (type === "test:pass" || type === "test:fail") {
      const { duration_ms: ms, type: kind, error } = data.details ?? {};
      if (data.nesting === 0 && data.file !== undefined) yield line({ type: "time", file: data.file, ms: ms ?? 0 });
      const name = [...names.slice(0, data.nesting), data.name].join(" › ");
      if (type === "test:fail") {
        if (error?.failureType === "subtestsFailed") continue;
        const { cause } = error ?? {};
        const text = cause?.stack ?? (cause === undefined ? error?.message : String(cause));
        yield line({ type: "fail", name, error: text, ms });
      }
      // node:test reports a file without tests as a passed test named by its path.
      else if (data.nesting === 0 && isAbsolute(data.name) && kind !== "suite")
        yield line({ type: "fail", name, error: "the file holds no test" });
      else if (kind !== "suite" || data.skip !== undefined) yield line({ type: "pass", name, skip: data.skip, ms });
    }
  }
}

/** @param {object} event */
const line = (event) => `${JSON.stringify(event)}\n`;
