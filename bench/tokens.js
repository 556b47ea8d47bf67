// The tokens of a run: a new issuer, and files of "path token" lines for wrk. Signing uses all cores.

import { createHash, createPrivateKey, generateKeyPairSync, randomBytes, randomUUID, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { fileURLToPath } from "node:url";

// The shipped policy's limit.
const LIFETIME_S = 900;

const KINDS = {
  RS256: { pair: () => generateKeyPairSync("rsa", { modulusLength: 2048 }), required: ["e", "kty", "n"] },
  ES256: { pair: () => generateKeyPairSync("ec", { namedCurve: "P-256" }), required: ["crv", "kty", "x", "y"] },
  EdDSA: { pair: () => generateKeyPairSync("ed25519"), required: ["crv", "kty", "x"] },
};

export function createKey(algorithm) {
  const { privateKey, publicKey } = KINDS[algorithm].pair();
  const jwk = publicKey.export({ format: "jwk" });
  const canonical = JSON.stringify(Object.fromEntries(KINDS[algorithm].required.map((name) => [name, jwk[name]])));
  const kid = createHash("sha256").update(canonical).digest("base64url");
  return {
    algorithm,
    kid,
    pkcs8: privateKey.export({ format: "pem", type: "pkcs8" }),
    spki: publicKey.export({ format: "pem", type: "spki" }),
    jwks: JSON.stringify({ keys: [{ ...jwk, kid, use: "sig", alg: algorithm }] }),
  };
}

const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
const digestOf = (algorithm) => (algorithm === "EdDSA" ? null : "sha256");

/**
 * Returns a client's key for proofs of possession (RFC 9449): its thumbprint, and a function that makes a new proof.
 * @param {string} algorithm
 */
export function createProver(algorithm) {
  const { kid: jkt, pkcs8, jwks } = createKey(algorithm);
  const { required } = KINDS[algorithm];
  const [jwk] = JSON.parse(jwks).keys;
  const header = part({
    typ: "dpop+jwt",
    alg: algorithm,
    jwk: Object.fromEntries(required.map((name) => [name, jwk[name]])),
  });
  const key = createPrivateKey(pkcs8);
  return {
    jkt,
    prove(method, url, token) {
      const ath = createHash("sha256").update(token).digest("base64url");
      const iat = Math.floor(Date.now() / 1000);
      const input = `${header}.${part({ jti: randomUUID(), htm: method, htu: url, iat, ath })}`;
      const signature = sign(digestOf(algorithm), Buffer.from(input), { key, dsaEncoding: "ieee-p1363" });
      return `${input}.${signature.toString("base64url")}`;
    },
  };
}

/**
 * Returns a secret that signs assertions with a private key: a JWKS.
 * @param {string} algorithm
 */
export function createAssertionKeys(algorithm) {
  const { kid, pkcs8 } = createKey(algorithm);
  return JSON.stringify({ keys: [{ ...createPrivateKey(pkcs8).export({ format: "jwk" }), kid }] });
}

/**
 * Writes `count` lines, each for another user. `spoil` makes the tokens invalid: "signature" (of another
 * key), "kid" (unknown). `jkt` binds them to a key, and opaque ones are texts without claims.
 * @param {string} folder
 * @param {string} name
 * @param {{ key: ReturnType<typeof createKey>, count: number, spoil?: string, typ?: string, query?: string, jkt?: string, isOpaque?: boolean }} options
 */
export async function writeTokens(folder, name, { key, count, spoil, typ = "at+jwt", query = "", jkt, isOpaque }) {
  const threads = Math.min(availableParallelism(), count);
  const share = Math.ceil(count / threads);
  const parts = await Promise.all(
    Array.from(
      { length: threads },
      (_, index) =>
        new Promise((resolve, reject) => {
          const data = { key, count: Math.min(share, count - index * share), spoil, typ, query, jkt, isOpaque };
          const worker = new Worker(fileURLToPath(import.meta.url), { workerData: data });
          worker.once("message", resolve);
          worker.once("error", reject);
        }),
    ),
  );
  const file = join(folder, `${name}.txt`);
  writeFileSync(file, parts.join(""));
  return file;
}

function makeLines({ key, count, spoil, typ, query, jkt, isOpaque }) {
  const signer = spoil === "signature" ? createKey(key.algorithm) : key;
  const now = Math.floor(Date.now() / 1000);
  let lines = "";
  for (let index = 0; index < count; index += 1) {
    const id = randomUUID();
    if (isOpaque) {
      lines += `/api/v1/users/${id}${query} ${id}~${randomBytes(24).toString("base64url")}\n`;
      continue;
    }
    const kid = spoil === "kid" ? randomBytes(32).toString("base64url") : key.kid;
    const claims = {
      iss: "auth-service",
      sub: id,
      user_id: id,
      aud: ["api"],
      iat: now,
      nbf: now,
      exp: now + LIFETIME_S,
      jti: randomUUID(),
      email: `${id}@example.com`,
      roles: ["user"],
      token_type: "access",
      sid: randomUUID(),
      ...(jkt && { cnf: { jkt } }),
    };
    const input = `${part({ alg: key.algorithm, typ, kid })}.${part(claims)}`;
    const signature = sign(digestOf(key.algorithm), Buffer.from(input), {
      key: signer.pkcs8,
      dsaEncoding: "ieee-p1363",
    });
    lines += `/api/v1/users/${id}${query} ${input}.${signature.toString("base64url")}\n`;
  }
  return lines;
}

if (!isMainThread && workerData?.key !== undefined) parentPort.postMessage(makeLines(workerData));
