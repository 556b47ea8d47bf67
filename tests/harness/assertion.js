// Reads the gateway's assertions with an independent implementation (jose), and makes assertions for tests
// that call a service directly.

import { randomBytes, randomUUID } from "node:crypto";

import { SignJWT, jwtVerify } from "jose";

import { remember } from "./run.js";

export function makeAssertionKey(kid = "k1") {
  return `${kid}:${remember(randomBytes(32).toString("base64url"))}`;
}

const secretOf = (key) => Buffer.from(key.slice(key.indexOf(":") + 1), "base64url");
const kidOf = (key) => key.slice(0, key.indexOf(":"));

// Verifies signature, type, issuer, audience and time. Resolves with { header, claims }.
export async function readAssertion(assertion, key, audience) {
  const { payload, protectedHeader } = await jwtVerify(assertion, secretOf(key), {
    algorithms: ["HS256"],
    typ: "gateway+jwt",
    issuer: "portcullis",
    audience,
  });
  return { header: protectedHeader, claims: payload };
}

export async function makeAssertion(key, { aud, htm = "GET", htu, ...changes }) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "portcullis", aud, iat: now, exp: now + 30, jti: randomUUID(), htm, htu, ...changes };
  return remember(
    await new SignJWT(claims)
      .setProtectedHeader({ alg: "HS256", typ: "gateway+jwt", kid: kidOf(key) })
      .sign(secretOf(key)),
  );
}
