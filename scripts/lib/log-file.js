// A log file that stays bounded: past its limit the file becomes NAME.1 and a new
// one begins, so that a stack left running fills no disk.

import { appendFileSync, existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { dirname } from "node:path";

// Bytes of one file; with its predecessor, twice that.
const LIMIT_BYTES = 16 * 1024 * 1024;

export function openLogFile(file) {
  mkdirSync(dirname(file), { recursive: true });
  let size = existsSync(file) ? statSync(file).size : 0;
  return {
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
