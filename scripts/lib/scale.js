// A model of what the gateway costs and what it asks of the platform, computed from the limits that are
// compiled into it. Pure: limits, an assumed deployment, prices and platform limits in; figures out.

/** @typedef {Record<string, number>} Figures */

const KEYS = "crates/token/src/keys/limits.rs";
const REVOCATION = "crates/token/src/revocation/limits.rs";
const PIPELINE = "src/pipeline/limits.rs";

/**
 * The limits that the model uses: the file and name of the constant.
 * @type {Record<string, [file: string, constant: string]>}
 */
const USED = {
  revocationPage: [REVOCATION, "PAGE_KEEP_MS"],
  revocationWhole: [REVOCATION, "WHOLE_KEEP_MS"],
  revocationCovers: [REVOCATION, "PAGE_COVERS_MS"],
  keysFreshLeast: [KEYS, "FRESH_MIN_MS"],
  keysFreshMost: [KEYS, "FRESH_MAX_MS"],
  keysRewrite: [KEYS, "REWRITE_MS"],
  keySetAge: ["origin/src/limits.rs", "JWKS_MAX_AGE_S"],
  policyReread: [PIPELINE, "POLICY_REREAD_S"],
  flush: [PIPELINE, "FLUSH_MS"],
};

/**
 * Evaluates a constant of a Rust file, including other constants of the file, products and sums.
 * @param {string} text
 * @param {string} name
 * @returns {number}
 */
export function constant(text, name) {
  const found = text.match(new RegExp(`const ${name}: \\w+ =\\s*([^;]+);`));
  if (found === null) throw new Error(`there is no constant ${name}`);
  const expression = found[1].replace(/\b[A-Z][A-Z0-9_]*\b/g, (other) => `${constant(text, other)}`);
  const plain = expression.replace(/(\d)_(?=\d)/g, "$1").trim();
  if (!/^[\d\s+*/()-]+$/.test(plain)) throw new Error(`${name} is no number that can be read: ${found[1]}`);
  return Function(`"use strict"; return (${plain});`)();
}

/**
 * Returns the limits in seconds.
 * @param {(path: string) => string} read reads a file of the project
 * @param {number} cronMinutes
 * @returns {Figures}
 */
export function readBounds(read, cronMinutes) {
  const bounds = Object.fromEntries(
    Object.entries(USED).map(([name, [file, spelled]]) => [
      name,
      constant(read(file), spelled) / (spelled.endsWith("_MS") ? 1000 : 1),
    ]),
  );
  return { ...bounds, cron: cronMinutes * 60 };
}

// Cloudflare does not publish how many isolates run in a location; more isolates cost more.
export const WORLD = {
  locations: 300,
  requestsPerSecond: 1_000_000,
  isolatesPerLocation: 20,
  issuers: 1,
  cpuMsPerRequest: 0.6,
  revocationsPerSecond: 10,
  // The default of a deployment; failures and refusals come on top.
  loggedShare: 0.1,
};

// US dollars per million, beyond what a plan includes.
const PRICES = {
  requests: 0.3,
  cpuMs: 0.02,
  kvReads: 0.5,
  kvWrites: 5,
  objectRequests: 0.15,
  objectRowsRead: 0.001,
  objectRowsWritten: 1,
  logEvents: 0.6,
};

const LIMITS = {
  // Soft limit of one object.
  objectRequestsPerSecond: 1_000,
  // Limit of one key.
  kvWritesPerSecond: 1,
};

const MONTH_S = 30 * 24 * 3600;

/** @param {Figures} bounds */
export function scale(bounds, world = WORLD, prices = PRICES, limits = LIMITS) {
  const isolates = world.locations * world.isolatesPerLocation;
  const freshness = Math.min(Math.max(bounds.keySetAge, bounds.keysFreshLeast), bounds.keysFreshMost);
  const perSecond = {
    requests: world.requestsPerSecond,
    cpuMs: world.requestsPerSecond * world.cpuMsPerRequest,
    // Each isolate re-reads the policy; it reads the keys only when it starts.
    kvReads: isolates / bounds.policyReread,
    // The cron trigger writes a changed set at once, and an unchanged one at this interval.
    kvWrites: world.issuers / bounds.keysRewrite,
    // One request per location for all its isolates: the newest page often, the whole log rarely.
    logObjectRequests:
      world.locations / bounds.revocationPage + world.locations / bounds.revocationWhole + world.revocationsPerSecond,
    sumsObjectRequests: isolates / bounds.flush,
    // Each isolate when its keys are no longer fresh (after an answer), and the cron trigger.
    originKeyFetches: (isolates * world.issuers) / freshness + world.issuers / bounds.cron,
    logEvents: world.requestsPerSecond * world.loggedShare,
  };
  const objectRowsRead =
    (world.locations / bounds.revocationPage) * world.revocationsPerSecond * bounds.revocationCovers;
  /** @param {number} rate */
  const perMonth = (rate) => rate * MONTH_S;
  /**
   * @param {number} rate
   * @param {number} price
   */
  const million = (rate, price) => (perMonth(rate) / 1e6) * price;
  const cost = {
    requests: million(perSecond.requests, prices.requests),
    cpu: million(perSecond.cpuMs, prices.cpuMs),
    kv: million(perSecond.kvReads, prices.kvReads) + million(perSecond.kvWrites, prices.kvWrites),
    objects:
      million(perSecond.logObjectRequests + perSecond.sumsObjectRequests, prices.objectRequests) +
      million(objectRowsRead, prices.objectRowsRead) +
      million(world.revocationsPerSecond, prices.objectRowsWritten),
    logs: million(perSecond.logEvents, prices.logEvents),
  };
  const platform = cost.requests + cost.cpu;
  const ours = cost.kv + cost.objects;
  const millions = perMonth(perSecond.requests) / 1e6;
  const room = {
    "revocation log": {
      uses: perSecond.logObjectRequests,
      of: limits.objectRequestsPerSecond,
      grows: "locations",
      until: Math.floor(
        (limits.objectRequestsPerSecond - world.revocationsPerSecond) /
          (1 / bounds.revocationPage + 1 / bounds.revocationWhole),
      ),
    },
    "metrics object": {
      uses: perSecond.sumsObjectRequests,
      of: limits.objectRequestsPerSecond,
      grows: "isolates",
      until: Math.floor(limits.objectRequestsPerSecond * bounds.flush),
    },
    "writes of one KV key": {
      uses: 1 / bounds.keysRewrite,
      of: limits.kvWritesPerSecond,
      grows: "change of a key set a second",
      until: limits.kvWritesPerSecond,
    },
  };
  const [first] = Object.entries(room).sort(([, a], [, b]) => b.uses / b.of - a.uses / a.of);
  return {
    isolates,
    freshness,
    perSecond,
    objectRowsRead,
    cost,
    platform,
    ours,
    millions,
    room,
    breaksFirst: first[0],
  };
}

/** @param {number} value */
const number = (value, digits = 3) =>
  value >= 100
    ? Math.round(value).toLocaleString("en-US")
    : Number(value.toPrecision(digits)).toLocaleString("en-US", { maximumFractionDigits: 12 });
/** @param {number} value */
const dollars = (value) =>
  `$${value < 0.01 ? Number(value.toPrecision(2)) : value < 100 ? value.toFixed(2) : number(value)}`;

/**
 * Returns the tables of docs/scale.md.
 * @param {Figures} bounds
 * @param {typeof WORLD} world
 * @param {ReturnType<typeof scale>} result
 */
export function render(bounds, world, result) {
  const { perSecond, cost, millions, room } = result;
  /** @type {[string, number, number | undefined, string][]} */
  const rows = [
    ["requests", perSecond.requests, cost.requests, ""],
    ["CPU ms", perSecond.cpuMs, cost.cpu, `${world.cpuMsPerRequest} per request`],
    ["KV reads", perSecond.kvReads, cost.kv, `policy: ${bounds.policyReread} s per isolate`],
    ["KV writes", perSecond.kvWrites, undefined, `unchanged keys: ${bounds.keysRewrite} s`],
    [
      "revocation log requests",
      perSecond.logObjectRequests,
      cost.objects,
      `${bounds.revocationPage} s and ${bounds.revocationWhole} s per location`,
    ],
    ["metrics object requests", perSecond.sumsObjectRequests, undefined, `${bounds.flush} s per isolate`],
    ["revocation log rows read", result.objectRowsRead, undefined, `the last ${bounds.revocationCovers} s`],
    ["key fetches from the issuer", perSecond.originKeyFetches, undefined, `${result.freshness} s per isolate`],
    ["log events", perSecond.logEvents, cost.logs, `${world.loggedShare * 100} % of requests`],
  ];
  const lines = [
    `${number(world.requestsPerSecond)} requests a second in ${world.locations} locations of ${world.isolatesPerLocation} isolates, ` +
      `${world.issuers} issuer, ${world.revocationsPerSecond} revocations a second:`,
    "",
    "|what|per second|$ per million requests|period|",
    "|---|--:|--:|---|",
    ...rows.map(([name, rate, price, period]) => {
      const money = price === undefined ? "" : dollars(price / millions);
      return `|${name}|${number(rate)}|${money}|${period}|`;
    }),
    "",
    "The price of KV, and of objects, is in the first row of each.",
    "",
    "|limit|used per second|of|reached at|",
    "|---|--:|--:|---|",
    ...Object.entries(room).map(
      ([name, { uses, of, grows, until }]) => `|${name}|${number(uses)}|${number(of)}|${number(until)} ${grows}|`,
    ),
    "",
    `Reached first: ${result.breaksFirst}.`,
  ];
  return lines.join("\n");
}
