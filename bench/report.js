// The report of a run for docs/bench.md: the aims and whether they are met, a table for each question, and a
// chart. Pure: a result in, texts out.

import { categoryNames } from "./profile.js";
import { PROFILES } from "./profiles.js";

// The machine's speed changes, so CPU times of steps are ratios to that of pass-through, scaled to this one.
const PASS_US = 160;

// Returns the CPU microseconds of a stage.
function stageUs(stages, name) {
  return stages && stages.find((stage) => stage.name === name).ratio * PASS_US;
}

// The aims: name, lower or upper bound, and the value in a result.
const of = (profile, field) => (result) => result.profiles[profile]?.gateway?.[field];
const distinct = ["distinct", "es256", "eddsa"].flatMap((name) => {
  const tokens = `distinct ${name === "distinct" ? "RS256" : name === "es256" ? "ES256" : "EdDSA"} tokens`;
  return [
    { what: `${tokens}, to pass-through`, least: 0.68, value: of(name, "toPass") },
    { what: `${tokens}, to jose`, least: 1, value: of(name, "toJose") },
    { what: `${tokens}, to Hono`, least: 1.1, value: of(name, "toHono") },
  ];
});
export const AIMS = [
  { what: "tokens that repeat, to pass-through", least: 0.78, value: of("remembered", "toPass") },
  { what: "tokens that repeat, to jose", least: 1.08, value: of("remembered", "toJose") },
  ...distinct,
  {
    what: "wrong signatures refused in a second of CPU, to jose",
    least: 1,
    value: of("hostile-signature", "cpuToJose"),
  },
  { what: "unknown key ids refused in a second of CPU, to jose", least: 1, value: of("hostile-kid", "cpuToJose") },
  {
    what: `CPU µs of the wasm and its crossings, where pass-through takes ${PASS_US}`,
    most: 22,
    digits: 0,
    value: ({ stages }) => subtract(stageUs(stages?.remembered, "gateway"), stageUs(stages?.remembered, "glue")),
  },
  { what: "uploads of 64 KiB, to pass-through", least: 0.75, value: of("upload", "toPass") },
  { what: "answers of 10 MiB, to pass-through", least: 0.96, value: of("10m", "toPass") },
  {
    what: "latency of an honest client with hostile ones, to that with honest ones",
    most: 1,
    value: ({ contention }) => contention?.gateway?.ratio,
  },
  {
    what: "a policy of 10,000 routes to one of 10",
    least: 0.97,
    value: ({ profiles }) => divide(profiles["routes-10000"]?.gateway?.toPass, profiles["routes-10"]?.gateway?.toPass),
  },
  {
    what: "memory after a million requests, to a tenth of them",
    most: 1.1,
    value: ({ memory }) => divide(memory?.gateway?.end.rss, memory?.gateway?.warm.rss),
  },
  {
    what: "start to first answer, to pass-through with the gateway's bindings",
    most: 1.4,
    value: ({ starts }) => divide(starts?.gateway, starts?.bound),
  },
  { what: "wasm, gzipped, in KB", most: 330, digits: 0, value: ({ wasm }) => wasm && wasm.gzipped / 1000 },
];

function subtract(a, b) {
  return a === undefined || b === undefined ? undefined : a - b;
}

function divide(a, b) {
  return a === undefined || b === undefined ? undefined : a / b;
}

export const row = (cells) => `|${cells.join("|")}|`;

export function isMet({ least, most, value }, result) {
  const measured = value(result);
  if (measured === undefined) return undefined;
  return least === undefined ? measured <= most : measured >= least;
}

// Returns the lines of a table of aims and what was measured; what does not meet its aim is bold.
export function aimTable(aims, result) {
  const rows = aims.map((aim) => {
    const wanted = aim.least === undefined ? `≤ ${aim.most}` : `≥ ${aim.least.toFixed(2)}`;
    const measured = aim.value(result)?.toFixed(aim.digits ?? 2) ?? "–";
    return row([aim.what, wanted, isMet(aim, result) === false ? `**${measured}**` : measured]);
  });
  return [row(["aim", "wanted", "measured"]), "|---|--:|--:|", ...rows, "", "Bold: not met."];
}

// What the tables show of the profiles that the proxies take part in. The chart has the others, and --json everything.
const QUESTIONS = [
  { question: "Requests per second", show: ({ rate }) => rate.toFixed(0) },
  { question: "CPU µs per request", show: ({ cpuUs }) => cpuUs.toFixed(0) },
  { question: "Latency, p99 ms", show: ({ p99 }) => (p99 / 1000).toFixed(2) },
];

/**
 * The rows: a title, and the servers of which each profile has one.
 * @type {{ title?: string, servers: string[] }[]}
 */
const ROWS = [
  { title: "no checks", servers: ["pass", "closed"] },
  { title: "no checks, same writes", servers: ["writer", "refuser"] },
  ...["gateway", "jose", "hono", "haproxy", "envoy"].map((server) => ({ servers: [server] })),
];

export function render(result, titles) {
  const { workerd, jose, hono } = result.versions;
  const lines = [
    `Measured on ${result.date}: ${result.machine}; workerd ${workerd}, jose ${jose}, Hono ${hono}. ` +
      `Medians of ${result.rounds} interleaved rounds of ${result.seconds} s; ratios are paired by round.`,
    "",
    ...aimTable(AIMS, result),
    "",
    "![Requests per second, as shares of the pass-through Worker's](bench.svg)",
  ];
  const compared = PROFILES.filter(({ name, servers }) => servers.includes("envoy") && result.profiles[name]);
  for (const { question, show } of compared.length === 0 ? [] : QUESTIONS) {
    lines.push("", `**${question}**`, "", row(["", ...compared.map(({ name }) => name)]));
    lines.push(`|---|${"--:|".repeat(compared.length)}`);
    for (const { title, servers } of ROWS) {
      const cells = compared.map(({ name }) => {
        const server = servers.find((one) => result.profiles[name][one] !== undefined);
        return server === undefined ? "" : show(result.profiles[name][server]);
      });
      if (cells.some((cell) => cell !== "")) lines.push(row([title ?? titles[servers[0]], ...cells]));
    }
  }
  if (result.paced) {
    lines.push("", "**Latency at 200 requests per second, ms**", "", row(["", "p50", "p99"]), "|---|--:|--:|");
    for (const [name, { p50, p99 }] of Object.entries(result.paced))
      lines.push(row([titles[name], (p50 / 1000).toFixed(2), (p99 / 1000).toFixed(2)]));
  }
  lines.push(...stageTables(result.stages ?? {}), ...categoryTable(result.categories));
  if (result.starts) {
    lines.push("", "**Process start to first answer, ms**", "", row(["", "ms"]), "|---|--:|");
    for (const [name, ms] of Object.entries(result.starts)) lines.push(row([titles[name], ms.toFixed(0)]));
  }
  const cost = COST.filter(({ server }) => result.profiles.remembered?.[server]);
  if (cost.length > 0)
    lines.push(
      "",
      "**US dollars for a million requests, tokens that repeat**",
      "",
      row(["", "requests", "CPU", "log"]),
    );
  if (cost.length > 0) lines.push("|---|--:|--:|--:|");
  for (const { server, title, logged } of cost) {
    const cpu = result.profiles.remembered[server].cpuUs * 1000 * PRICES.cpuMs;
    const cells = [PRICES.request * 1e6, cpu, logged * 1e6 * PRICES.line];
    lines.push(row([title ?? titles[server], ...cells.map((dollars) => dollars.toFixed(3))]));
  }
  return lines.join("\n");
}

function stageTables(stages) {
  const lines = [];
  for (const [profile, rows] of Object.entries(stages)) {
    const { title } = PROFILES.find(({ name }) => name === profile);
    lines.push("", `**CPU µs, where pass-through takes ${PASS_US}: ${title}**`, "");
    lines.push(row(["", "in all", "this step"]), "|---|--:|--:|");
    let before = PASS_US;
    for (const { name, title: what, isStep } of rows.slice(1)) {
      const us = stageUs(rows, name);
      lines.push(row([what, us.toFixed(0), isStep ? (us - before).toFixed(0) : ""]));
      before = us;
    }
  }
  return lines;
}

/**
 * Returns the part of the page about the policy's options, which is measured and dated by itself.
 * @param {{ date: string, machine: string, versions: { workerd: string }, bursts: number, tables: { title: string, rows: { title: string, cpuUs: number, ratio: number }[] }[] }} result
 */
export function renderOptions({ date, machine, versions, bursts, tables }) {
  const lines = [
    `Measured on ${date}: ${machine}; workerd ${versions.workerd}. Medians of ${bursts} bursts; ratios are paired by burst.`,
  ];
  for (const { title, rows } of tables) {
    lines.push("", `**${title}**`, "", row(["", "CPU µs per request", "ratio"]), "|---|--:|--:|");
    for (const { title: what, cpuUs, ratio } of rows) lines.push(row([what, cpuUs.toFixed(0), ratio.toFixed(2)]));
  }
  return lines.join("\n");
}

function categoryTable(categories) {
  if (categories === undefined) return [];
  const usOf = (category) => categories.map(({ ratio, shares }) => (shares[category] * ratio * PASS_US).toFixed(0));
  return [
    "",
    `**CPU µs by category of code, where pass-through takes ${PASS_US}: tokens that repeat**`,
    "",
    row(["", ...categories.map(({ title }) => title)]),
    `|---|${"--:|".repeat(categories.length)}`,
    ...categoryNames.map((category) => row([category, ...usOf(category)])),
  ];
}

// Cloudflare's prices in US dollars beyond what the plan includes: of a request, a millisecond of CPU time, and a line
// of Workers Logs.
const PRICES = { request: 0.3e-6, cpuMs: 0.02e-6, line: 0.6e-6 };

// `logged` is the share of requests with a log line.
const COST = [
  { server: "pass", logged: 0 },
  { server: "gateway", logged: 0.1 },
  { server: "gateway", title: "Portcullis, all successes logged", logged: 1 },
  { server: "jose", logged: 0 },
];

// Bars of the Workers, one group for each profile with a pass-through Worker.
const SHOWN = ["writer", "gateway", "jose", "hono"];
const COLOURS = { writer: "#e2e8f0", gateway: "#2563eb", jose: "#94a3b8", hono: "#cbd5e1" };
const SHORT = { writer: "only writes the same" };
const [WIDTH, LEFT, RIGHT, BAR, GAP, TOP] = [720, 230, 50, 13, 14, 34];

export function chart(result, titles) {
  const groups = PROFILES.filter(({ name }) => result.profiles[name]?.pass !== undefined);
  const parts = [];
  let y = TOP;
  const scale = (WIDTH - LEFT - RIGHT) / 1.1;
  for (const { name, title } of groups) {
    const measured = result.profiles[name];
    const shown = SHOWN.filter((server) => measured[server]?.toPass !== undefined);
    const middle = y + (shown.length * BAR) / 2 + 4;
    parts.push(`<text x="${LEFT - 10}" y="${middle}" text-anchor="end">${title}</text>`);
    for (const server of shown) {
      const share = measured[server].toPass;
      const width = Math.max(share * scale, 1).toFixed(1);
      parts.push(`<rect x="${LEFT}" y="${y}" width="${width}" height="${BAR - 2}" fill="${COLOURS[server]}"/>`);
      const end = (LEFT + Number(width) + 4).toFixed(1);
      parts.push(`<text x="${end}" y="${y + BAR - 4}" font-size="10">${share.toFixed(2)}</text>`);
      y += BAR;
    }
    y += GAP;
  }
  const one = (LEFT + scale).toFixed(1);
  const legend = SHOWN.map(
    (server, index) =>
      `<rect x="${LEFT + index * 120}" y="10" width="11" height="11" fill="${COLOURS[server]}"/>` +
      `<text x="${LEFT + index * 120 + 16}" y="20" font-size="10">${SHORT[server] ?? titles[server]}</text>`,
  );
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${y}" viewBox="0 0 ${WIDTH} ${y}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${y}" fill="#ffffff"/>`,
    ...legend,
    `<line x1="${one}" y1="${TOP - 4}" x2="${one}" y2="${y - GAP / 2}" stroke="#64748b" stroke-dasharray="3 3"/>`,
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}
