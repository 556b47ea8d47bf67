// A lock between processes: a directory of numbered symbolic links, which the system creates whole or not
// at all. The link with the highest number names the process that holds the lock, or FREE.
//
// Two processes that find the same holder dead both try to create the next number, and only one can. The
// link with the highest number is never removed: a number that has been used, and that a slow process
// creates again, is not the highest, and so does not take the lock.

import { mkdirSync, readdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { join } from "node:path";

import { errorCode } from "../../cli/lib/errors.js";

const POLL_MS = 50;
const FREE = "free";

/**
 * Runs `work` while no other process holds the lock `folder`. Takes over the lock of a process that
 * ended without releasing it.
 * @template T
 * @param {string} folder
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withLock(folder, work) {
  mkdirSync(folder, { recursive: true });
  for (;;) {
    const last = Math.max(0, ...numbersIn(folder));
    if (isFree(folder, last) && append(folder, last + 1, String(process.pid))) break;
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  try {
    return await work();
  } finally {
    append(folder, Math.max(...numbersIn(folder)) + 1, FREE);
  }
}

/** @param {string} folder */
const numbersIn = (folder) => readdirSync(folder).map(Number);

/**
 * Creates a link and returns whether it is the highest; then removes the others.
 * @param {string} folder
 * @param {number} number
 * @param {string} holder
 */
function append(folder, number, holder) {
  try {
    symlinkSync(holder, join(folder, String(number)));
  } catch (error) {
    if (errorCode(error) === "EEXIST") return false;
    throw error;
  }
  const numbers = numbersIn(folder);
  const isHighest = number === Math.max(...numbers);
  for (const other of isHighest ? numbers.filter((one) => one < number) : [number])
    rmSync(join(folder, String(other)), { force: true });
  return isHighest;
}

/**
 * Returns whether no living process holds the lock by this link.
 * @param {string} folder
 * @param {number} number
 */
function isFree(folder, number) {
  if (number === 0) return true;
  try {
    const holder = readlinkSync(join(folder, String(number)));
    return holder === FREE || !isRunning(Number(holder));
  } catch {
    // The link was removed after the directory was read.
    return false;
  }
}

/** @param {number} pid */
function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return errorCode(error) === "EPERM";
  }
}
