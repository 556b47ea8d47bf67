// The lock of a --state folder: an open transaction of SQLite, which locks its file in the operating system. The system
// releases the lock when the process ends, also after kill -9. Child processes do not inherit it.

import { join } from "node:path";

import { errorCode, ScriptError } from "../lib/errors.js";

/** @typedef {{ release: () => void }} Lock */

const FILE = "lock";

// SQLite's result code if another process has the lock.
const SQLITE_BUSY = 5;

/**
 * Takes the lock of a folder. Returns undefined if another process has it.
 * @param {string} folder
 * @returns {Promise<Lock | undefined>}
 */
export async function takeLock(folder) {
  // Not in the types of Node 20.
  const builtin = "node:sqlite";
  const { DatabaseSync } = await import(builtin).catch((error) => {
    throw new ScriptError(
      `Node ${process.versions.node} is too old (${errorCode(error)}); install Node 22.13 or newer.`,
    );
  });
  const file = join(folder, FILE);
  const database = new DatabaseSync(file);
  try {
    // Nothing is written, so there is nothing to restore.
    database.exec("PRAGMA journal_mode = OFF; BEGIN EXCLUSIVE");
  } catch (error) {
    database.close();
    const { errcode, message } = /** @type {Error & { errcode?: number }} */ (error);
    if (errcode === SQLITE_BUSY) return undefined;
    throw new ScriptError(`${file} cannot be locked (${message}).`);
  }
  return { release: () => database.close() };
}
