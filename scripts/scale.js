// `npm run scale`: estimates the platform resources that the gateway uses at a given size, and their
// cost. With --write, writes the tables to docs/scale.md.

import { readFileSync } from "node:fs";
import { join } from "node:path";

import { parse } from "smol-toml";

import { readArguments, usageError } from "../cli/lib/arguments.js";
import { updatePage } from "./lib/pages.js";
import { ROOT } from "./lib/paths.js";
import { WORLD, readBounds, render, scale } from "./lib/scale.js";
import { ScriptError, runMain } from "../cli/lib/errors.js";

/** @import { Option } from "../cli/lib/arguments.js" */

/**
 * The options that set a number of the modelled deployment: [its name there, meaning].
 * @type {Record<string, [name: keyof typeof WORLD, meaning: string]>}
 */
const NUMBERS = {
  locations: ["locations", "locations of the platform that see requests"],
  requests: ["requestsPerSecond", "requests per second, in all locations together"],
  isolates: ["isolatesPerLocation", "isolates in each location"],
  issuers: ["issuers", "issuers of tokens"],
  "cpu-ms": ["cpuMsPerRequest", "milliseconds of CPU time per request"],
  revocations: ["revocationsPerSecond", "revocations per second"],
  logged: ["loggedShare", "share of requests that are logged, from 0 to 1"],
};

const HELP = `npm run scale                      estimates resources and cost at internet scale
npm run scale -- --requests 5000 --locations 40
npm run scale -- --write           writes the tables to docs/scale.md
npm run scale -- --help            shows this

${Object.entries(NUMBERS)
  .map(([option, [name, meaning]]) => `  ${`--${option}`.padEnd(14)} ${meaning} (${WORLD[name]})`)
  .join("\n")}`;

/** @param {typeof WORLD} world */
export function tables(world) {
  /** @param {string} path */
  const read = (path) => readFileSync(join(ROOT, path), "utf8");
  const { triggers } = /** @type {any} */ (parse(read("wrangler.toml")));
  const [cron] = triggers.crons;
  const minutes = Number(cron.match(/^\*\/(\d+) \* \* \* \*$/)?.[1]);
  if (!minutes)
    throw new ScriptError(`The cron trigger ${JSON.stringify(cron)} of wrangler.toml must run every N minutes.`);
  const bounds = readBounds(read, minutes);
  return render(bounds, world, scale(bounds, world));
}

/**
 * @param {string[]} args
 * @returns {Record<string, any>}
 */
function parseArguments(args) {
  /**
   * @param {string} text
   * @param {string} flag
   */
  const readNumber = (text, flag) => {
    if (!/^\d+(?:\.\d+)?$/.test(text)) throw usageError(`${flag} must be a number of at least 0.`);
    return Number(text);
  };
  /** @type {Record<string, Option>} */
  const numbers = Object.fromEntries(
    Object.keys(NUMBERS).map((option) => [option, { type: "string", parse: readNumber }]),
  );
  /** @type {Record<string, Option>} */
  const options = { write: { type: "boolean" }, ...numbers };
  const { values } = readArguments(args, { command: "npm run scale", options });
  const world = { ...WORLD };
  for (const [option, [name]] of Object.entries(NUMBERS)) world[name] = values[option] ?? world[name];
  return { ...values, world };
}

if (process.argv[1] === import.meta.filename) {
  await runMain((args) => {
    const options = parseArguments(args);
    if (options.help) return console.log(HELP);
    const text = tables(options.world);
    if (!options.write) return console.log(text);
    return updatePage("docs/scale.md", "scale", text);
  });
}
