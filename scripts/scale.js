// `npm run scale`: what the gateway would ask of the platform, and what that would cost, in a
// world of a given size. With --write, into docs/scale.md.

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { parse } from "smol-toml";

import { ROOT } from "./lib/places.js";
import { WORLD, readBounds, render, scale } from "./lib/scale.js";
import { EXIT_SETTING, Trouble, runMain } from "./lib/trouble.js";

// What each number is, for --help.
const MEANINGS = {
  locations: "locations of the platform that see requests",
  requestsPerSecond: "requests a second, in all locations together",
  isolatesPerLocation: "isolates in each location",
  issuers: "issuers of tokens",
  cpuMsPerRequest: "milliseconds of processor time a request",
  revocationsPerSecond: "revocations a second",
  loggedShare: "share of requests whose log line is kept, from 0 to 1",
};

const FLAGS = {
  "--locations": "locations",
  "--requests": "requestsPerSecond",
  "--isolates": "isolatesPerLocation",
  "--issuers": "issuers",
  "--cpu-ms": "cpuMsPerRequest",
  "--revocations": "revocationsPerSecond",
  "--logged": "loggedShare",
};

const HELP = `npm run scale                      the gateway at internet scale, on paper
npm run scale -- --requests 5000 --locations 40
npm run scale -- --write           puts the tables into docs/scale.md
npm run scale -- --help            shows this

${Object.entries(FLAGS)
  .map(([flag, name]) => `  ${flag.padEnd(14)} ${MEANINGS[name]} (${WORLD[name]})`)
  .join("\n")}`;

const BEGIN = "<!-- npm run scale -- --write -->";
const END = "<!-- end -->";

export function tables(world) {
  const read = (path) => readFileSync(join(ROOT, path), "utf8");
  const [cron] = parse(read("wrangler.toml")).triggers.crons;
  const minutes = Number(cron.match(/^\*\/(\d+) \* \* \* \*$/)?.[1]);
  if (!minutes) throw new Trouble(`the trigger ${JSON.stringify(cron)} is not one in so many minutes`);
  const bounds = readBounds(read, minutes);
  return render(bounds, world, scale(bounds, world));
}

export function insert(document, text) {
  const [head, rest] = document.split(BEGIN);
  if (rest === undefined || !rest.includes(END)) throw new Trouble("docs/scale.md has lost its marks");
  return `${head}${BEGIN}\n\n${text}\n\n${END}${rest.split(END)[1]}`;
}

function parseArguments(args) {
  const options = { help: false, write: false, world: { ...WORLD } };
  for (let index = 0; index < args.length; index += 1) {
    const arg = args[index];
    if (arg === "--help" || arg === "-h") options.help = true;
    else if (arg === "--write") options.write = true;
    else if (Object.hasOwn(FLAGS, arg)) {
      const value = Number(args[(index += 1)]);
      if (!(value >= 0)) throw new Trouble(`${arg} needs a number.`, { code: EXIT_SETTING });
      options.world[FLAGS[arg]] = value;
    } else
      throw new Trouble(`${JSON.stringify(arg)} is not known; see: npm run scale -- --help`, { code: EXIT_SETTING });
  }
  return options;
}

if (process.argv[1] === import.meta.filename) {
  await runMain((args) => {
    const options = parseArguments(args);
    if (options.help) return console.log(HELP);
    const text = tables(options.world);
    if (!options.write) return console.log(text);
    const path = join(ROOT, "docs", "scale.md");
    writeFileSync(path, insert(readFileSync(path, "utf8"), text));
  });
}
