// The arguments of `npm run bench:origin`, medians and ratios of the rounds, the aims, and the tables of
// docs/bench-origin.md. Pure.

import { readArguments, wholeNumber } from "../cli/lib/arguments.js";
import { median } from "../scripts/lib/instruction-counts.js";
import { aimTable, row } from "./report.js";

/** @import { Option } from "../cli/lib/arguments.js" */

export const HELP = `npm run bench:origin                     measures the services and the client (8 minutes)
npm run bench:origin -- --rounds 3       rounds of all measurements (5)
npm run bench:origin -- --seconds 2      seconds per measurement (4)
npm run bench:origin -- --json FILE      also writes the result to a file
npm run bench:origin -- --write          also writes docs/bench-origin.md
npm run bench:origin -- --help           shows this

Needs wrk (Debian: apt install wrk). PostgreSQL is measured if npm has it for the platform.`;

// An assertion is valid for 30 seconds, and must outlive the measurement that it is signed for.
const SECONDS_MOST = 20;
const ROUNDS_MOST = 20;

/**
 * @param {string[]} args
 * @returns {Record<string, any>}
 */
export function parseArguments(args) {
  /** @type {Record<string, Option>} */
  const options = {
    rounds: { type: "string", parse: wholeNumber(ROUNDS_MOST) },
    seconds: { type: "string", parse: wholeNumber(SECONDS_MOST) },
    json: { type: "string" },
    write: { type: "boolean" },
  };
  return { rounds: 5, seconds: 4, ...readArguments(args, { command: "npm run bench:origin", options }).values };
}

// The measurements of each round, in this order. The rate is divided by that of `of`.
export const MEASURED = [
  { name: "floor", title: "argon2 alone" },
  { name: "login", title: "`POST /api/v1/auth/login`", of: "floor" },
  { name: "refresh", title: "`POST /api/v1/auth/refresh`", of: "login" },
  { name: "health-auth", title: "`/health` of the auth service" },
  { name: "validate", title: "`GET /api/v1/auth/validate-token`", of: "health-auth" },
  { name: "health-users", title: "`/health` of the user service" },
  { name: "read", title: "`GET /api/v1/users/{id}`", of: "health-users" },
];

export const DATABASES = { sqlite: "SQLite", postgres: "PostgreSQL" };

// Summarises rounds of { name: sample } as { name: medians and ratios }. A ratio is that of the rates of one
// round (or the inverse of CPU times); the median of all rounds is taken.
export function summarise(rounds) {
  const has = (name) => rounds.every((round) => round[name] !== undefined);
  return Object.fromEntries(
    MEASURED.filter(({ name }) => has(name)).map(({ name, of }) => {
      const fields = Object.keys(rounds[0][name]);
      const medians = Object.fromEntries(
        fields.map((field) => [field, median(rounds.map((round) => round[name][field]))]),
      );
      if (of !== undefined && has(of)) {
        medians.ratio = median(rounds.map((round) => round[name].rate / round[of].rate));
        // Other load on the machine changes rates far more than CPU times.
        medians.cpuRatio = median(rounds.map((round) => round[of].cpuUs / round[name].cpuUs));
      }
      return [name, medians];
    }),
  );
}

// The aims: name, lower or upper bound, and the value in a result.
export const AIMS = [
  ...Object.entries(DATABASES).map(([kind, title]) => ({
    what: `logins to argon2 alone, ${title}`,
    least: 0.9,
    value: ({ databases }) => databases[kind]?.login?.ratio,
  })),
  {
    what: "a call of `HttpAuthClient` to one of bare reqwest",
    most: 1.05,
    digits: 3,
    value: ({ client }) => client?.plain_ratio,
  },
  {
    what: "a call of `AuthenticatedClient` to one of bare reqwest",
    most: 1.05,
    digits: 3,
    value: ({ client }) => client?.session_ratio,
  },
];

export function render(result) {
  const versions = Object.entries(result.versions).map(([name, version]) => `${name} ${version}`);
  const lines = [
    `Measured on ${result.date}: ${result.machine}; ${versions.join(", ")}. ` +
      `Medians of ${result.rounds} interleaved rounds of ${result.seconds} s; ratios are paired by round.`,
    "",
    ...aimTable(AIMS, result),
    "",
  ];
  const databases = Object.entries(result.databases);
  lines.push(row(["", ...databases.flatMap(([kind]) => [`${DATABASES[kind]}: per second`, "p99 ms", "CPU µs"])]));
  lines.push(`|---|${"--:|".repeat(3 * databases.length)}`);
  for (const { name, title } of MEASURED) {
    const cells = databases.flatMap(([, { [name]: it }]) =>
      it === undefined
        ? ["–", "–", "–"]
        : [it.rate.toFixed(it.rate < 100 ? 1 : 0), (it.p99 / 1000).toFixed(2), it.cpuUs.toFixed(0)],
    );
    if (cells.some((cell) => cell !== "–")) lines.push(row([title, ...cells]));
  }
  return lines.join("\n");
}
