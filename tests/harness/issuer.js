// An issuer of access tokens with its own keys, like the auth service.
//
//   const issuer = await createIssuer();              auth-service, RS256, one key
//   issuer.publishOn(upstream);                       /.well-known/jwks.json there
//   const token = await issuer.accessToken({ sub, roles: ["admin"] });
//   const odd = await issuer.sign(claims, header);    any claims and header
//   await issuer.rotate();                            signs with a new key, publishes both
//
// Tokens are recorded as secrets of the run.

import { randomUUID } from "node:crypto";

import { SignJWT, calculateJwkThumbprint, exportJWK, generateKeyPair } from "jose";

import { remember } from "./run.js";

const LIFETIME_S = 900;

export async function createIssuer({ name = "auth-service", audience = ["api"], algorithm = "RS256" } = {}) {
  const keys = [];

  const makeKey = async () => {
    const pair = await generateKeyPair(algorithm, { extractable: true, modulusLength: 2048 });
    const jwk = await exportJWK(pair.publicKey);
    const kid = await calculateJwkThumbprint(jwk);
    return {
      kid,
      privateKey: pair.privateKey,
      publicKey: pair.publicKey,
      jwk: { ...jwk, kid, use: "sig", alg: algorithm },
    };
  };

  const issuer = {
    name,
    keys,
    get key() {
      return keys[0];
    },
    jwks: () => ({ keys: keys.map((key) => key.jwk) }),
    async rotate() {
      keys.unshift(await makeKey());
      return keys[0];
    },
    publishOn(upstream, path = "/.well-known/jwks.json") {
      upstream.answer(`GET ${path}`, (_request, response) => {
        response.writeHead(200, {
          "content-type": "application/json",
          "cache-control": "public, max-age=300",
        });
        response.end(JSON.stringify(issuer.jwks()));
      });
      return issuer;
    },
    // Returns the claims of an access token. `changes` overrides claims, or removes them with undefined.
    claims(changes = {}) {
      const now = Math.floor(Date.now() / 1000);
      const sub = changes.sub ?? randomUUID();
      const all = {
        iss: name,
        sub,
        user_id: sub,
        aud: audience,
        iat: now,
        nbf: now,
        exp: now + LIFETIME_S,
        jti: randomUUID(),
        email: "ada@example.com",
        roles: ["user"],
        token_type: "access",
        sid: randomUUID(),
        ...changes,
      };
      return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
    },
    async sign(claims, header = {}, key = keys[0]) {
      // jose leaves members out that are undefined.
      const all = { alg: algorithm, typ: "at+jwt", kid: key.kid, ...header };
      return remember(await new SignJWT(claims).setProtectedHeader(all).sign(key.privateKey));
    },
    accessToken(changes = {}, header = {}) {
      return issuer.sign(issuer.claims(changes), header);
    },
  };
  await issuer.rotate();
  return issuer;
}

// Returns the token with one bit of one decoded part flipped: 0 header, 1 payload, 2 signature. Bits are
// counted from the beginning of the part.
export function flipBit(token, part, bit) {
  const parts = token.split(".");
  const bytes = Buffer.from(parts[part], "base64url");
  bytes[Math.floor(bit / 8) % bytes.length] ^= 1 << (bit % 8);
  parts[part] = bytes.toString("base64url");
  return remember(parts.join("."));
}
