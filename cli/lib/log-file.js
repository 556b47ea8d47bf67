// A log file of bounded size: when the file exceeds its limit, it is renamed to NAME.1 and a new one
// begins.

import { appendFileSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";

// Bytes of one file; together with its predecessor, twice that.
const LIMIT_BYTES = 16 * 1024 * 1024;

/** @param {string} file */
export function openLogFile(file) {
  mkdirSync(dirname(file), { recursive: true });
  let size = existsSync(file) ? statSync(file).size : 0;
  return {
    /** @param {string} line */
    write(line) {
      const text = `${line}\n`;
      if (size + text.length > LIMIT_BYTES && size > 0) {
        renameSync(file, `${file}.1`);
        size = 0;
      }
      try {
        appendFileSync(file, text);
        size += text.length;
      } catch {
        // A full disk must not end the services; their last lines are kept in memory.
      }
    },
  };
}
