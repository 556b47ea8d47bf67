// What options of a policy cost: in each table, the gateway with one option in each row, compared with the gateway
// without it in the first row. All rows get the same requests, apart from what the option itself asks for.

import { createAssertionKeys, createProver } from "./tokens.js";

const PUBLIC_URL = "https://gateway.test";

/** Bursts of a row at most: an isolate remembers 65,536 proofs, and each request needs another one. */
export const BURSTS_MAX = 1000;

// What an option adds to the shipped policy, after which line.
const TOP = "";
const UPSTREAM = "[upstreams.users]\n";
const ROUTE = '[[routes]]\npath = "/api/v1/users/{id}"\n';
const ISSUER = '[issuers.auth-service]\nissuer = "auth-service"           # exact `iss`\n';
const AFTER_ISSUER = "\n# --- Revocation";
const END = undefined;

/**
 * Returns a policy with a line after each of these, instead of what is there up to another text.
 * @param {string} policy
 * @param {[string | undefined, string, string?][]} additions
 */
export function addTo(policy, additions) {
  return additions.reduce((added, [after, line, upTo]) => {
    if (after === END) return `${added}\n${line}\n`;
    const at = added.indexOf(after);
    if (at < 0) throw new Error(`the shipped policy has no ${after.trim()}`);
    const begin = at + after.length;
    const end = upTo === undefined ? begin : added.indexOf(upTo, begin);
    if (end < 0) throw new Error(`the shipped policy has no ${upTo?.trim()}`);
    return `${added.slice(0, begin)}${line}\n${added.slice(end)}`;
  }, policy);
}

const assertion = (setting) => [[UPSTREAM, `assertion = { ${setting} }`]];
const proofs = [
  [TOP, `public_url = "${PUBLIC_URL}"`],
  [ROUTE, 'proof = "required"'],
];
const introspection = [
  [
    ISSUER,
    `audience = ["api"]
revocable = true
introspection = { url = "http://127.0.0.1:1", client_id = "gateway", cache_s = 300 }`,
    AFTER_ISSUER,
  ],
];
const validation = [
  [UPSTREAM, 'openapi = "users.json"'],
  [ROUTE, "validate = true"],
];

const text = (limits = {}) => ({ type: "string", minLength: 1, maxLength: 200, ...limits });
const responses = { 200: { description: "OK" } };

const operations = {
  parameters: [{ in: "path", name: "id", required: true, schema: { type: "string", pattern: "^[0-9a-f-]{36}$" } }],
  get: { responses },
  patch: { responses },
  delete: { responses },
  put: {
    requestBody: { required: true, content: { "application/json": { schema: { $ref: "#/components/schemas/User" } } } },
    responses,
  },
};

// The services' document: a route with validation needs each of its methods there.
export const DOCUMENT = JSON.stringify({
  openapi: "3.1.0",
  info: { title: "Users", version: "1" },
  paths: { "/api/v1/users/{id}": operations, "/other/{id}": operations },
  components: {
    schemas: {
      User: {
        type: "object",
        required: ["first_name", "last_name", "email", "addresses"],
        properties: {
          first_name: text(),
          last_name: text(),
          email: text({ pattern: "^[^@ ]+@[^@ ]+$" }),
          born: text({ pattern: "^\\d{4}-\\d{2}-\\d{2}$" }),
          language: { enum: ["de", "en", "fr"] },
          newsletter: { type: "boolean" },
          tags: { type: "array", maxItems: 20, uniqueItems: true, items: text({ maxLength: 20 }) },
          addresses: { type: "array", minItems: 1, maxItems: 10, items: { $ref: "#/components/schemas/Address" } },
        },
        additionalProperties: false,
      },
      Address: {
        type: "object",
        required: ["kind", "street", "city", "postal_code", "country"],
        properties: {
          kind: { enum: ["home", "work", "delivery"] },
          street: text(),
          number: { type: "integer", minimum: 1 },
          city: text(),
          postal_code: text({ maxLength: 12 }),
          country: text({ pattern: "^[A-Z]{2}$" }),
          note: text(),
        },
        additionalProperties: false,
      },
    },
  },
});

const address = (kind, number) => ({
  kind,
  street: "Analytical Engine Road",
  number,
  city: "London",
  postal_code: "W1U 4AB",
  country: "GB",
  note: "Please ring twice, and leave parcels with the neighbours on the ground floor.",
});

// About 1 KB.
export const BODY = JSON.stringify({
  first_name: "Ada",
  last_name: "Lovelace",
  email: "ada@example.com",
  born: "1815-12-10",
  language: "en",
  newsletter: false,
  tags: ["mathematics", "engines", "poetry", "music"],
  addresses: [address("home", 12), address("work", 5), address("delivery", 112), address("delivery", 7)],
});

// Other routes and another upstream that use all of the options.
const elsewhere = [
  [TOP, `public_url = "${PUBLIC_URL}"`],
  [
    END,
    `[upstreams.other]
url = "http://127.0.0.1:8081"
openapi = "users.json"
assertion = { algorithm = "ES256", claims = ["email", "sid"], content_digest = true }

[[routes]]
path = "/other/{id}"
methods = ["GET", "PUT"]
upstream = "other"
access = "user"
issuers = ["auth-service"]
proof = "required"
validate = true`,
  ],
];

/**
 * An option. `additions` are those to the shipped policy; rows with the same ones have the same `build`. `variables` returns
 * those of the gateway, `proof` is the algorithm of the proofs that the requests need, and `isOpaque` says that their tokens
 * are opaque.
 * @typedef {object} Row
 * @property {string} build
 * @property {string} title
 * @property {any[]} [additions]
 * @property {() => Record<string, string>} [variables]
 * @property {string} [proof]
 * @property {boolean} [isOpaque]
 */

const keysOf = (upstream, algorithm) => () => ({ [`ASSERTION_KEYS_${upstream}`]: createAssertionKeys(algorithm) });

/** @type {Row} */
const WITHOUT = { build: "shipped", title: "without an option" };

/** @type {Row} */
const ELSEWHERE = {
  build: "options-elsewhere",
  title: "all of the options on other routes only",
  additions: elsewhere,
  variables: keysOf("OTHER", "ES256"),
};

/**
 * @typedef {{ name: string, title: string, body?: string, rows: Row[] }} Table
 * @type {Table[]}
 */
// biome-ignore format: a table, one option a row
export const TABLES = [
  {
    name: "get",
    title: "GET, tokens that repeat",
    rows: [
      WITHOUT,
      ELSEWHERE,
      { build: "options-es256", title: "assertion by ES256", additions: assertion('algorithm = "ES256"'), variables: keysOf("USERS", "ES256") },
      { build: "options-eddsa", title: "assertion by EdDSA", additions: assertion('algorithm = "EdDSA"'), variables: keysOf("USERS", "EdDSA") },
      { build: "options-claims", title: "two claims of the token in the assertion", additions: assertion('claims = ["email", "sid"]') },
      { build: "options-proof", title: "DPoP proof required, by ES256", additions: proofs, proof: "ES256" },
      { build: "options-proof", title: "DPoP proof required, by EdDSA", additions: proofs, proof: "EdDSA" },
      { build: "options-opaque", title: "opaque tokens, introspected every 300 s", additions: introspection, isOpaque: true },
    ],
  },
  {
    name: "put",
    title: "PUT of 1 KB of JSON, tokens that repeat",
    body: BODY,
    rows: [
      WITHOUT,
      ELSEWHERE,
      { build: "options-digest", title: "digest of the body in the assertion", additions: assertion("content_digest = true") },
      { build: "options-validate", title: "body checked against an OpenAPI document", additions: validation },
    ],
  },
];

/**
 * Returns the key and the form of the requests of a row.
 * @param {Row} row
 * @param {string} [body]
 */
export function formOf({ proof }, body) {
  const prover = proof && createProver(proof);
  const type = body === undefined ? [] : ["Content-Type: application/json"];
  if (!prover) return { form: { body, headersOf: () => type } };
  const headersOf = (method, path, token) => [...type, `DPoP: ${prover.prove(method, PUBLIC_URL + path, token)}`];
  return { jkt: prover.jkt, form: { body, scheme: "DPoP", headersOf } };
}
