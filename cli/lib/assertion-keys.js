// Makes the keys of assertions, in the form of the secret ASSERTION_KEYS_<UPSTREAM>.

import { generateKeyPairSync, randomBytes } from "node:crypto";

/**
 * @param {string} algorithm of the policy
 */
export function makeAssertionKeys(algorithm) {
  if (algorithm === "HS256") return `k1:${randomBytes(32).toString("base64url")}`;
  const { privateKey } =
    algorithm === "ES256" ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("ed25519");
  return JSON.stringify({ keys: [{ kid: "k1", ...privateKey.export({ format: "jwk" }) }] });
}
