// Clean-up in reverse order, in which one failure does not stop the others. For all tests of a file, at
// its top:
//
//   const scope = fileScope();
//   before(async () => { edge = await startEdge(scope, …); });
//
// and within one test:
//
//   test("…", async (t) => { const edge = await startEdge(testScope(t), …); });
//
// node:test's `after` does not suffice: called in a `before` hook it runs when that hook ends, and a test's
// clean-ups run in the order in which they were registered.

import { after } from "node:test";

/** @typedef {{ after: (end: () => unknown) => void }} Scope */

export function fileScope() {
  return lastFirst(after);
}

export function testScope(t) {
  return lastFirst((end) => t.after(end));
}

function lastFirst(register) {
  const endings = [];
  register(async () => {
    const failures = [];
    for (const end of endings.reverse()) {
      try {
        await end();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0)
      throw new AggregateError(failures, `clean-up failed: ${failures.map((error) => error.stack).join("; ")}`);
  });
  return { after: (end) => void endings.push(end) };
}
