// Valid and forged assertions of the gateway, and settings with secrets, for the checks in Rust, Node, Python and Go.
// They are made with Node's crypto, independently of the gateway's code.

import * as crypto from "node:crypto";

import { b64 } from "./cases.js";

const AUDIENCE = "shop";
const METHOD = "GET";
const TARGET = "/orders/7?open=1";

/**
 * A key: `parts` for the set of public keys, and `sign`.
 * @typedef {{ kid: string, alg: string, parts?: object, sign: (input: Buffer) => Buffer }} Key
 */

function secretKey(kid) {
  const secret = crypto.randomBytes(32);
  return { kid, alg: "HS256", secret, sign: (input) => crypto.createHmac("sha256", secret).update(input).digest() };
}

function ecKey(kid, use = "sig") {
  const { publicKey, privateKey } = crypto.generateKeyPairSync("ec", { namedCurve: "P-256" });
  const parts = { ...publicKey.export({ format: "jwk" }), kid, alg: "ES256", use };
  const sign = (input, /** @type {crypto.DSAEncoding} */ dsaEncoding = "ieee-p1363") =>
    crypto.sign("sha256", input, { key: privateKey, dsaEncoding });
  return { kid, alg: "ES256", parts, sign };
}

function edKey(kid) {
  const { publicKey, privateKey } = crypto.generateKeyPairSync("ed25519");
  const parts = { ...publicKey.export({ format: "jwk" }), kid, alg: "EdDSA", use: "sig" };
  return { kid, alg: "EdDSA", parts, sign: (input) => crypto.sign(null, input, privateKey) };
}

/**
 * Returns an assertion. Members that are undefined in `header` and `claims` are left out.
 * @param {Key} key
 */
function make({ kid, alg, sign }, header, claims) {
  const parts = [{ alg, kid, typ: "gateway+jwt", ...header }, claims];
  const input = parts.map((part) => b64(JSON.stringify(part))).join(".");
  return `${input}.${b64(sign(Buffer.from(input)))}`;
}

/**
 * Returns the table. A case is for a service with the secrets (`HS256`), or with the public keys and this algorithm. `at`
 * is the time by the service's clock. `expected` is `ok` or `refused`.
 * @param {number} now
 */
export function makeAssertions(now) {
  const secrets = [secretKey("k1"), secretKey("k2")];
  const [ec, ed] = [
    [ecKey("e1"), ecKey("e2")],
    [edKey("d1"), edKey("d2")],
  ];
  const encryption = ecKey("x1", "enc");
  const p384 = crypto.generateKeyPairSync("ec", { namedCurve: "P-384" }).publicKey.export({ format: "jwk" });
  const jwks = {
    keys: [
      { kty: "XYZ", kid: "unknown-type", x: "AA" },
      { ...p384, kid: "e3", alg: "ES384", use: "sig" },
      ...[...ec, encryption, ...ed].map(({ parts }) => parts),
    ],
  };
  const claims = {
    ...{ iss: "portcullis", aud: AUDIENCE, sub: "ada", email: "ada@example.com", roles: ["user", "ops"], sid: "s1" },
    ...{ claims: { iss: "https://id.example.com", tenant: "north" }, iat: now, exp: now + 30 },
    ...{ jti: "0190b5a2-8c4e-7d3a-9f10-000000000001", request_id: "0190b5a2-8c4e-7d3a-9f10-000000000002" },
    ...{ htm: METHOD, htu: TARGET },
  };
  const anonymous = { sub: undefined, email: undefined, roles: undefined, sid: undefined, claims: undefined };
  const cases = [];
  /** @type {(algorithm: string, name: string, assertion: string, expected: string, request?: { at?: number }) => void} */
  const add = (algorithm, name, assertion, expected, { at = now, ...request } = {}) =>
    cases.push({ name, algorithm, method: METHOD, target: TARGET, ...request, at, assertion, expected });

  for (const [first, second, stranger] of [
    [...secrets, secretKey("k1")],
    [...ec, ecKey("e1")],
    [...ed, edKey("d1")],
  ]) {
    const { alg } = first;
    const good = make(first, {}, claims);
    const [header, payload, signature] = good.split(".");
    const flipped = Buffer.from(signature, "base64url");
    flipped[0] ^= 1;
    const changed = (changes) => make(first, {}, { ...claims, ...changes });
    /** @type {[string, string, string, { at: number }?][]} */
    const rows = [
      ["as made", good, "ok"],
      ["by the second key", make(second, {}, claims), "ok"],
      ["of a public route", changed(anonymous), "ok"],
      ["by a clock 30 s behind", good, "ok", { at: now - 30 }],
      ["by a clock 31 s behind", good, "refused", { at: now - 31 }],
      ["in its last second, by a clock 30 s ahead", good, "ok", { at: now + 59 }],
      ["in its last second, by a clock 31 s ahead", good, "refused", { at: now + 60 }],
      ["for 31 s", changed({ exp: now + 31 }), "refused"],
      ["for an hour", changed({ exp: now + 3600 }), "refused"],
      ["for an hour, later", changed({ exp: now + 3600 }), "refused", { at: now + 600 }],
      ["expired before it was made", changed({ exp: now - 1 }), "refused"],
      ["for another method", changed({ htm: "POST" }), "refused"],
      ["for a method in lower case", changed({ htm: "get" }), "refused"],
      ["for another path", changed({ htu: "/orders/8?open=1" }), "refused"],
      ["for another query", changed({ htu: "/orders/7" }), "refused"],
      ["for another upstream", changed({ aud: "users" }), "refused"],
      ["of another gateway", changed({ iss: "stranger" }), "refused"],
      ["with a text as a date", changed({ exp: String(now + 30) }), "refused"],
      ["an access token", make(first, { typ: "at+jwt" }, claims), "refused"],
      ["without typ", make(first, { typ: undefined }, claims), "refused"],
      ["without kid", make(first, { kid: undefined }, claims), "refused"],
      ["of an unknown key", make(first, { kid: "unknown" }, claims), "refused"],
      ["by another key than the named one", make(first, { kid: second.kid }, claims), "refused"],
      ["by a stranger's key", make(stranger, {}, claims), "refused"],
      ["with alg none", make({ ...first, alg: "none", sign: () => Buffer.alloc(0) }, {}, claims), "refused"],
      ["with a changed signature", `${header}.${payload}.${b64(flipped)}`, "refused"],
      ["with a cut signature", `${header}.${payload}.${signature.slice(0, -2)}`, "refused"],
      [
        "with the signature of other claims",
        `${header}.${changed({ sub: "eve" }).split(".")[1]}.${signature}`,
        "refused",
      ],
      ["without a signature", `${header}.${payload}.`, "refused"],
      ["of two parts", `${header}.${payload}`, "refused"],
      ["of four parts", `${good}.${signature}`, "refused"],
      ["twice", `${good}, ${good}`, "refused"],
      ["claims that are no JSON", `${header}.${b64("x")}.${signature}`, "refused"],
    ];
    for (const [name, assertion, expected, request] of rows) add(alg, name, assertion, expected, request);
    for (const claim of ["iss", "aud", "iat", "exp", "htm", "htu"])
      add(alg, `without ${claim}`, changed({ [claim]: undefined }), "refused");
  }
  const hs512 = {
    ...secrets[0],
    alg: "HS512",
    sign: (input) => crypto.createHmac("sha512", secrets[0].secret).update(input).digest(),
  };
  add("HS256", "by another HMAC", make(hs512, {}, claims), "refused");
  add("HS256", "by a public key", make({ ...ec[0], kid: "k1" }, {}, claims), "refused");
  const asSecret = (secret) => (input) => crypto.createHmac("sha256", secret).update(input).digest();
  for (const [key, other] of [
    [ec[0], ed[0]],
    [ed[0], ec[0]],
  ]) {
    const { alg, kid, parts } = key;
    const x = { kid, alg: "HS256", sign: asSecret(Buffer.from(parts.x, "base64url")) };
    add(alg, "by the public key as a secret", make(x, {}, claims), "refused");
    const pem = crypto.createPublicKey({ key: parts, format: "jwk" }).export({ format: "pem", type: "spki" });
    add(alg, "by its PEM as a secret", make({ ...x, sign: asSecret(pem) }, {}, claims), "refused");
    add(alg, "by a key of another algorithm", make({ ...other, alg }, {}, claims), "refused");
  }
  const der = { ...ec[0], sign: (input) => ec[0].sign(input, "der") };
  add("ES256", "with a signature in DER", make(der, {}, claims), "refused");
  add("ES256", "by a key for encryption", make(encryption, {}, claims), "refused");
  for (const [name, assertion] of [
    ["an empty text", ""],
    ["one dot", "."],
    ["two dots", ".."],
    ["a header that is no object", `${b64("[]")}.${b64("{}")}.AA`],
  ])
    for (const algorithm of ["HS256", "ES256"]) add(algorithm, name, assertion, "refused");

  const [one, two, three] = [...secrets, secretKey("k3")].map(({ kid, secret }) => `${kid}:${b64(secret)}`);
  const text = one.slice(one.indexOf(":") + 1);
  return {
    audience: AUDIENCE,
    secrets: `${one},${two}`,
    jwks,
    settings: [
      ["one", one, true],
      ["two, with blanks", ` ${one} , ${two}\n`, true],
      ["three", `${one},${two},${three}`, false],
      ["two of one kid", `${one},${one}`, false],
      ["without kid", text, false],
      ["with an empty kid", `:${text}`, false],
      ["with padding", `${one}=`, false],
      ["too short", "k1:c2hvcnQ", false],
      ["not base64url", `k1:${"/".repeat(43)}`, false],
      ["three parts", `${one}:${text}`, false],
      ["with a comma at the end", `${one},`, false],
      ["empty", "", false],
    ].map(([name, setting, isValid]) => ({ name, setting, isValid })),
    cases,
  };
}
