// Finds the command that the arguments name, and runs it in the project of the current directory.

import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { usage, usageError } from "./arguments.js";
import { EXIT_USAGE, ScriptError } from "./errors.js";
import { packageVersion, policyToolFolder } from "./package.js";
import { loadPolicyTool } from "./policy-tool.js";
import { runScript } from "./script.js";
import { wranglerEnv } from "./wrangler.js";

/** @import { Command, Wrangler } from "./project.js" */

/**
 * The commands in the order of the help, each in its module.
 * @type {Record<string, string>}
 */
const COMMANDS = {
  dev: "../commands/dev.js",
  check: "../commands/check.js",
  test: "../commands/test.js",
  explain: "../commands/explain.js",
  routes: "../commands/routes.js",
  push: "../commands/push.js",
  rollback: "../commands/rollback.js",
  secrets: "../commands/secrets.js",
  status: "../commands/status.js",
  deploy: "../commands/deploy.js",
  build: "../commands/build.js",
  serve: "../serve/index.js",
};

/** @param {string} path */
const isThere = (path) => existsSync(fileURLToPath(new URL(path, import.meta.url)));

/**
 * @param {string} name
 * @returns {Promise<Command>}
 */
const load = (name) => import(COMMANDS[name]);

async function help() {
  const names = Object.keys(COMMANDS).filter((name) => isThere(COMMANDS[name]));
  const rows = await Promise.all(
    names.map(async (name) => /** @type {[string, string]} */ ([name, (await load(name)).summary])),
  );
  return `${usage("portcullis", [...rows, ["COMMAND --help", "shows its options"], ["--version", "prints the version"]])}`;
}

// Major version of Node that wrangler needs.
const NODE_MAJOR = 22;

function projectFolder() {
  const folder = process.cwd();
  if (existsSync(join(folder, "wrangler.toml"))) return folder;
  throw new ScriptError(
    "There is no wrangler.toml here; run this in the project, or create one: npm create portcullis",
    { code: EXIT_USAGE },
  );
}

/**
 * Finds wrangler in the project, which installs it: `check`, `serve` and others do without.
 * @returns {Wrangler}
 */
function findWrangler() {
  if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR)
    throw new ScriptError(
      `Node ${process.versions.node} is too old for wrangler; install Node ${NODE_MAJOR} or newer from https://nodejs.org.`,
      { code: EXIT_USAGE },
    );
  const folder = projectFolder();
  let manifest;
  try {
    manifest = createRequire(join(folder, "wrangler.toml")).resolve("wrangler/package.json");
  } catch {
    throw new ScriptError(
      "This command needs wrangler, which is not installed here; run: npm install --save-dev wrangler@4",
      { code: EXIT_USAGE },
    );
  }
  return {
    node: process.execPath,
    script: join(dirname(manifest), "bin", "wrangler.js"),
    folder,
    // Where `wrangler dev` keeps its state.
    local: [],
    env: wranglerEnv(join(folder, ".wrangler")),
  };
}

/** Runs the command that the arguments of the process name. */
export async function main() {
  let isServing = false;
  await runScript(
    async ([name, ...args], processes) => {
      if (name === undefined || name === "--help" || name === "-h" || name === "help") return console.log(await help());
      if (name === "--version" || name === "-v") return console.log(packageVersion());
      if (!Object.hasOwn(COMMANDS, name) || !isThere(COMMANDS[name]))
        throw usageError(`${JSON.stringify(name)} is not a command; see: portcullis --help`);
      const { run } = await load(name);
      return run(args, {
        command: `portcullis ${name}`,
        env: process.env,
        processes,
        openPolicyTool: () => loadPolicyTool(policyToolFolder()),
        projectFolder,
        findWrangler,
        onServing: () => {
          isServing = true;
        },
      });
    },
    { isServing: () => isServing },
  );
}
