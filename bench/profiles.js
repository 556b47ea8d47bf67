// The profiles: number and kind of tokens, and number of connections. Repeated tokens fit into the gateway's
// token cache (8 MiB); distinct ones do not.

const REPEATED = 100;
const DISTINCT = 30_000;
const WORKERS = ["pass", "writer", "gateway", "jose", "hono"];
const ALL = [...WORKERS, "haproxy", "envoy"];
const REFUSERS = ["closed", "refuser", "gateway", "jose", "hono"];

const plain = { algorithm: "RS256", connections: 32 };

/**
 * @typedef {object} Profile
 * @property {string} name
 * @property {string} title
 * @property {string} algorithm
 * @property {number} connections
 * @property {number} count tokens
 * @property {string[]} servers
 * @property {"signature" | "kid"} [spoil] what is wrong with the tokens
 * @property {string} [build] policy of the gateway
 * @property {string} [query]
 * @property {number} [upload] bytes
 */

/** @type {Profile[]} */
// biome-ignore format: a table, one profile a row
export const PROFILES = [
  { name: "remembered", title: "tokens that repeat", ...plain, count: REPEATED, servers: ALL },
  { name: "distinct", title: "tokens that are all distinct", ...plain, count: DISTINCT, servers: ALL },
  { name: "hostile-signature", title: "tokens with a wrong signature", ...plain, count: DISTINCT, spoil: "signature", servers: [...REFUSERS, "haproxy", "envoy"] },
  { name: "hostile-kid", title: "tokens with unknown key ids", ...plain, count: DISTINCT, spoil: "kid", servers: [...REFUSERS, "envoy"] },
  { name: "es256", title: "distinct tokens by ES256", ...plain, algorithm: "ES256", count: DISTINCT, build: "algorithms", servers: WORKERS },
  { name: "eddsa", title: "distinct tokens by EdDSA", ...plain, algorithm: "EdDSA", count: DISTINCT, build: "algorithms", servers: WORKERS },
  { name: "64k", title: "answers of 64 KiB", ...plain, count: REPEATED, query: "?size=64k", servers: WORKERS },
  { name: "upload", title: "uploads of 64 KiB", ...plain, count: REPEATED, upload: 64 * 1024, servers: WORKERS },
  { name: "10m", title: "answers of 10 MiB", ...plain, connections: 4, count: REPEATED, query: "?size=10m", servers: WORKERS },
  { name: "one", title: "one connection", ...plain, connections: 1, count: REPEATED, servers: WORKERS },
  { name: "many", title: "256 connections", ...plain, connections: 256, count: REPEATED, servers: WORKERS },
  { name: "routes-10", title: "a policy of 10 routes", ...plain, count: REPEATED, build: "routes-10", servers: ["pass", "gateway"] },
  { name: "routes-1000", title: "a policy of 1,000 routes", ...plain, count: REPEATED, build: "routes-1000", servers: ["pass", "gateway"] },
  { name: "routes-10000", title: "a policy of 10,000 routes", ...plain, count: REPEATED, build: "routes-10000", servers: ["pass", "gateway"] },
];
