// Wraps the built Worker in an entry module that shifts the clock which the Worker reads. The
// runtime has no option for that, and a shifted clock of the process needs a library from outside.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

import { BUILD } from "../../scripts/lib/paths.js";
import { temporaryFolder } from "./run.js";

// Modules are evaluated in the order of their imports, so the gateway never sees the real `Date`.
const ENTRY = `import "./clock.js";
export * from ${JSON.stringify(join(BUILD, "entry.js"))};
export { default } from ${JSON.stringify(join(BUILD, "entry.js"))};
`;

const clock = (aheadMs) => `const { Date: Real } = globalThis;
globalThis.Date = class Date extends Real {
  constructor(...args) {
    super(...(args.length === 0 ? [Date.now()] : args));
  }
  static now() {
    return Real.now() + ${aheadMs};
  }
};
`;

// Returns { entry, set(aheadMs) }: the path of the entry module, and a function that sets how many
// milliseconds its clock is ahead of the machine's from the Worker's next start on.
export function shiftClock(scope, aheadMs) {
  const folder = temporaryFolder(scope, "clock");
  const set = (millis) => writeFileSync(join(folder, "clock.js"), clock(millis));
  set(aheadMs);
  const entry = join(folder, "entry.js");
  writeFileSync(entry, ENTRY);
  return { entry, set };
}
