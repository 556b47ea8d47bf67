// What a token says and, as far as a browser can know, what the gateway would say about it. Nothing is sent.

import { age, dateTime } from "./format.js";

// Bytes of a token, its header and its signature that the gateway takes.
const [TOKEN_BYTES, HEADER_BYTES] = [16 * 1024, 8 * 1024];

// Defaults of gateway.toml.
const [LEEWAY_S, MAX_LIFETIME_S] = [30, 86_400];

/** What only the gateway can check. */
export const UNCHECKED = [
  "the signature and its key",
  "whether the token was revoked",
  "proofs of possession (DPoP, client certificates)",
  "what a provider preset adds",
  "the access rule of a route",
];

/**
 * @typedef {{ result: "good" | "bad" | "unknown", name: string, text: string, code?: string }} Check
 * @typedef {{ header?: any, claims?: any, issuer?: string, checks: Check[] }} Explained
 */

/**
 * @param {string} text
 * @param {any} policy in use; undefined if it is not known
 * @param {number} now in milliseconds
 * @returns {Explained}
 */
export function explain(text, policy, now) {
  const token = text.trim().replace(/^(?:Authorization:\s*)?(?:Bearer|DPoP)\s+/i, "");
  /** @type {Check[]} */
  const checks = [];
  /** @param {Check["result"]} result @param {string} name @param {string} text @param {string} [code] */
  const note = (result, name, text, code) => {
    checks.push({ result, name, text, code: result === "bad" ? code : undefined });
  };
  const parts = token.split(".");
  if (parts.length !== 3) {
    const opaque = "An opaque token has no readable content; its authorization server says what it means.";
    const found = parts.length === 1 ? opaque : `It has ${parts.length} parts instead of three.`;
    note("bad", "Form", `This is no signed JWT. ${found}`, "token_malformed");
    return { checks };
  }
  const [header, claims] = parts.slice(0, 2).map(decode);
  if (header === undefined) note("bad", "Header", "It is not base64url of a JSON object.", "token_header_malformed");
  if (claims === undefined) note("bad", "Claims", "They are not base64url of a JSON object.", "token_claims_malformed");
  if (!/^[\w-]+$/.test(parts[2])) note("bad", "Signature", "It is not unpadded base64url.", "token_malformed");
  if (header === undefined || claims === undefined) return { header, claims, checks };
  const isShort = token.length <= TOKEN_BYTES && parts[0].length <= HEADER_BYTES;
  note(isShort ? "good" : "bad", "Size", `${token.length} bytes`, "token_too_large");
  const extension = ["crit", "b64", "zip"].find((name) => name in header);
  if (extension !== undefined)
    note("bad", "Header", `It has ${extension}, which is refused.`, "token_header_extension");
  const found = issuerOf(policy, claims.iss);
  checkIssuer(note, { header, claims }, found);
  checkDates(note, claims, found?.[1], now);
  if (claims.cnf !== undefined)
    note("unknown", "Binding", "The token is bound to a key or certificate (cnf): its request needs the proof.");
  return { header, claims, issuer: found?.[0], checks };
}

/** @param {string} part */
function decode(part) {
  if (!/^[\w-]+$/.test(part)) return undefined;
  try {
    const bytes = Uint8Array.from(atob(part.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {any} policy
 * @param {unknown} iss
 * @returns {[string, any] | undefined}
 */
function issuerOf(policy, iss) {
  /** @param {any} issuer */
  const accepts = ({ issuer, tenants = [] }) =>
    issuer === iss || tenants.some((/** @type {string} */ tenant) => issuer.replace("{tenantid}", tenant) === iss);
  return Object.entries(policy?.issuers ?? {}).find(([, issuer]) => accepts(issuer));
}

/** @param {unknown} value */
const list = (value) => (Array.isArray(value) ? value : value === undefined ? [] : [value]);

/**
 * @param {(result: Check["result"], name: string, text: string, code?: string) => void} note
 * @param {{ header: any, claims: any }} token
 * @param {[string, any] | undefined} found
 */
function checkIssuer(note, { header, claims }, found) {
  if (found === undefined) {
    note("bad", "Issuer", `No issuer of the policy is exactly ${shown(claims.iss)}.`, "token_issuer_unknown");
    return;
  }
  const [name, issuer] = found;
  note("good", "Issuer", `${shown(claims.iss)} is the issuer ${name}.`);
  /** @param {string} title @param {any[] | undefined} wanted @param {any[]} given @param {string} code */
  const among = (title, wanted, given, code) => {
    const names = given.length === 0 ? "nothing" : given.map(shown).join(", ");
    if (wanted === undefined || wanted.length === 0)
      return note("unknown", title, `${names}; the policy file names none, so a preset decides or any is accepted.`);
    const isGood = given.some((each) => wanted.includes(each));
    return note(isGood ? "good" : "bad", title, `${names}; accepted: ${wanted.map(shown).join(", ")}`, code);
  };
  among("Algorithm (alg)", issuer.algorithms, [header.alg], "token_algorithm_not_allowed");
  const types = issuer.types?.map((/** @type {string} */ type) => type.toLowerCase());
  const type = typeof header.typ === "string" ? header.typ.toLowerCase().replace(/^application\//, "") : header.typ;
  among("Type (typ)", types, list(type), "token_type_header_invalid");
  if (issuer.audience_claim === undefined)
    among("Audience (aud)", issuer.audience, list(claims.aud), "token_audience_invalid");
  else note("unknown", "Audience", `The claim ${shown(issuer.audience_claim)} has the audience.`);
  if (issuer.token_type !== undefined)
    among("token_type", [issuer.token_type], list(claims.token_type), "token_type_invalid");
  if (issuer.require?.length > 0) note("unknown", "Required claims", JSON.stringify(issuer.require));
}

/**
 * @param {(result: Check["result"], name: string, text: string, code?: string) => void} note
 * @param {any} claims
 * @param {any} issuer
 * @param {number} now
 */
function checkDates(note, { exp, iat, nbf }, issuer, now) {
  const leeway = issuer?.leeway_s ?? LEEWAY_S;
  const nowS = now / 1000;
  if (typeof exp !== "number" || typeof iat !== "number" || exp <= iat)
    return note("bad", "Dates", "exp and iat must be numbers, and exp after iat.", "token_dates_invalid");
  const isExpired = exp + leeway <= nowS;
  const when = isExpired || exp <= nowS ? `${age(nowS - exp)} ago` : `in ${age(exp - nowS)}`;
  note(isExpired ? "bad" : "good", "Expiry (exp)", `${dateTime(exp * 1000)}, ${when}`, "token_expired");
  const begins = Math.max(iat, typeof nbf === "number" ? nbf : iat);
  const isEarly = begins > nowS + leeway;
  const since = begins > nowS ? `in ${age(begins - nowS)}` : `${age(nowS - begins)} ago`;
  note(isEarly ? "bad" : "good", "Begin (iat, nbf)", `${dateTime(begins * 1000)}, ${since}`, "token_not_yet_valid");
  const longest = issuer?.max_lifetime_s ?? MAX_LIFETIME_S;
  const isLong = exp - iat > longest;
  return note(
    isLong ? "bad" : "good",
    "Lifetime",
    `${age(exp - iat)}; at most ${age(longest)}`,
    "token_lifetime_too_long",
  );
}

/** @param {unknown} value */
const shown = (value) =>
  value === undefined ? "nothing" : typeof value === "string" ? `“${value}”` : JSON.stringify(value);
