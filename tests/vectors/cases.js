// Valid and hostile tokens: a name, the token, and the code of the gateway's answer ("ok" if it accepts the
// token). They are made with Node's crypto and with npm `jose`, independently of the gateway's code.
//
// `make.js` writes them to tokens.json for the native tests, at a fixed time. `tests/edge/tokens.test.js`
// makes new ones and sends them to the running gateway.

import * as crypto from "node:crypto";
import * as jose from "jose";

export const ISSUER = "auth-service";
const AUDIENCE = "api";
export const USER = "0190b5a2-8c4e-7d3a-9f10-1c2b3a4d5e6f";

export const b64 = (data) => Buffer.from(data).toString("base64url");

export function makeKeys() {
  const rsa = (modulusLength) => {
    const { publicKey, privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength });
    const { kty, n, e } = publicKey.export({ format: "jwk" });
    // The thumbprint of RFC 7638.
    const kid = crypto.createHash("sha256").update(JSON.stringify({ e, kty, n })).digest("base64url");
    return { publicKey, privateKey, jwk: { kty, n, e }, kid };
  };
  return { issuer: rsa(2048), attacker: rsa(2048), weak: rsa(1024), unpublished: rsa(2048) };
}

// The issuer's key set: one usable key among others that must be skipped.
export function makeJwks(keys) {
  return {
    keys: [
      { kty: "XYZ", kid: "unknown-type", x: "AA" },
      { ...keys.weak.jwk, kid: keys.weak.kid, alg: "RS256", use: "sig" },
      { ...keys.issuer.jwk, kid: keys.issuer.kid, alg: "RS256", use: "sig" },
      { ...keys.issuer.jwk, kid: "for-encryption", alg: "RS256", use: "enc" },
    ],
  };
}

// Signs any bytes: header and payload may be text that no library writes.
export function sign(privateKey, header, payload, hash = "sha256") {
  const text = (part) => (typeof part === "string" || Buffer.isBuffer(part) ? part : JSON.stringify(part));
  const input = `${b64(text(header))}.${b64(text(payload))}`;
  return `${input}.${b64(crypto.sign(hash, Buffer.from(input), privateKey))}`;
}

export async function makeCases(keys, now) {
  const own = keys.issuer.privateKey;
  const header = { alg: "RS256", kid: keys.issuer.kid, typ: "at+jwt" };
  const claims = {
    iss: ISSUER,
    sub: USER,
    user_id: USER,
    aud: [AUDIENCE],
    iat: now,
    nbf: now,
    exp: now + 900,
    jti: "0190b5a2-8c4e-7d3a-9f10-000000000001",
    email: "ada@example.com",
    roles: ["user"],
    token_type: "access",
    sid: "0190b5a2-8c4e-7d3a-9f10-000000000002",
  };
  const without = (name) => Object.fromEntries(Object.entries(claims).filter(([key]) => key !== name));
  const withClaims = (changes) => sign(own, header, { ...claims, ...changes });
  const withHeader = (changes) => sign(own, { ...header, ...changes }, claims);
  const raw = (headerText, payloadText) => sign(own, headerText ?? header, payloadText ?? claims);
  const good = sign(own, header, claims);
  const [h, p, s] = good.split(".");
  const hmac = (secret) => {
    const input = `${b64(JSON.stringify({ ...header, alg: "HS256" }))}.${p}`;
    return `${input}.${crypto.createHmac("sha256", secret).update(input).digest("base64url")}`;
  };
  const flip = (part, bit) => {
    const bytes = Buffer.from(part, "base64url");
    bytes[bit >> 3] ^= 1 << (bit & 7);
    return b64(bytes);
  };
  const payloadText = JSON.stringify(claims);
  const member = (text) => `${payloadText.slice(0, -1)},${text}}`;
  const pem = keys.issuer.publicKey.export({ format: "pem", type: "spki" });
  const der = keys.issuer.publicKey.export({ format: "der", type: "spki" });
  const other = (privateKey) => sign(privateKey, header, claims);
  const lastAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  // 2,048 bits are 341 characters and two bits: four bits of the last character are unused, so the next
  // character of the alphabet encodes the same bytes.
  const trailing = s.slice(0, -1) + lastAlphabet[lastAlphabet.indexOf(s.at(-1)) + 1];
  const dateCases = [
    ["a string", '"1"'],
    ["null", "null"],
    ["negative", "-1"],
    ["a negative fraction", "-0.5"],
    ["1e308", "1e308"],
    ["beyond the year 9999", "253402300800"],
    ["a fraction beyond the year 9999", "253402300799.5"],
    ["an array", "[1]"],
    ["true", "true"],
  ];

  const dates = (texts) =>
    raw(
      null,
      Object.entries(texts).reduce(
        (text, [claim, value]) => text.replace(new RegExp(`"${claim}":\\d+`), `"${claim}":${value}`),
        payloadText,
      ),
    );
  const groupIds = Array.from({ length: 200 }, () => crypto.randomUUID());
  // As long as a token may be, or up to three bytes shorter.
  const longest = (() => {
    const base = withClaims({ pad: "" }).length;
    return withClaims({ pad: "x".repeat(Math.floor(((16 * 1024 - base) * 3) / 4)) });
  })();

  const byJose = await new jose.SignJWT({ ...claims })
    .setProtectedHeader(header)
    .sign(await jose.importPKCS8(own.export({ format: "pem", type: "pkcs8" }), "RS256"));

  return [
    // Valid.
    ["a good token", good, "ok"],
    ["a good token made by jose", byJose, "ok"],
    ["aud as a string", withClaims({ aud: AUDIENCE }), "ok"],
    ["aud with others and ours", withClaims({ aud: ["other", AUDIENCE] }), "ok"],
    ["typ spelt as a full media type", withHeader({ typ: "application/at+jwt" }), "ok"],
    ["typ in capitals", withHeader({ typ: "AT+JWT" }), "ok"],
    ["no nbf", sign(own, header, without("nbf")), "ok"],
    ["expired within the leeway", withClaims({ iat: now - 900, nbf: now - 900, exp: now - 10 }), "ok"],
    ["issued a little in the future", withClaims({ iat: now + 20, nbf: now + 20 }), "ok"],
    [
      "exp, nbf and iat with fractions",
      dates({ exp: `${now + 890}.25`, nbf: `${now - 1}.5`, iat: `${now - 1}.75` }),
      "ok",
    ],
    ["exp with an exponent", dates({ exp: `${(now + 900) / 1e9}e9` }), "ok"],
    [
      "exp, nbf and iat as floats without a fraction",
      dates({ exp: `${now + 900}.0`, nbf: `${now}.0`, iat: `${now}.0` }),
      "ok",
    ],
    ...["email", "roles", "scope", "sid", "jti"].flatMap((claim) => [
      [`${claim} null`, withClaims({ [claim]: null }), "ok"],
      [`${claim} empty`, withClaims({ [claim]: "" }), "ok"],
    ]),
    ["roles an empty list", withClaims({ roles: [] }), "ok"],
    ["roles with an empty one and a null among them", withClaims({ roles: ["", "user", null] }), "ok"],
    ["roles a string", withClaims({ roles: "user" }), "ok"],
    ["scope a list", withClaims({ scope: ["read", "write"] }), "ok"],
    ["scp a string", withClaims({ scp: "read write" }), "ok"],
    ["scp a list", withClaims({ scp: ["read", "write"] }), "ok"],
    ["a role with a comma", withClaims({ roles: ["CN=admins,OU=groups,DC=example,DC=com"] }), "ok"],
    ["a role that is not ASCII", withClaims({ roles: ["Größe"] }), "ok"],
    ["a role of 256 bytes", withClaims({ roles: ["r".repeat(256)] }), "ok"],
    ["200 group ids", withClaims({ roles: groupIds }), "ok"],
    ["a thousand roles", withClaims({ roles: Array(1000).fill("r") }), "ok"],
    ["16 KB", longest, "ok"],
    ["a claim named __proto__", raw(null, member('"__proto__":{"roles":["admin"]}')), "ok"],
    [
      "a header that brings its own key, with a good kid",
      withHeader({ jwk: keys.attacker.jwk, jku: "https://evil.example/jwks" }),
      "ok",
    ],

    // Algorithms.
    ...["none", "None", "nOnE", "NONE", ""].map((alg) => [
      `alg ${JSON.stringify(alg)} without a signature`,
      `${b64(JSON.stringify({ ...header, alg }))}.${p}.`,
      "token_signature_invalid",
    ]),
    ["alg none with a signature", withHeader({ alg: "none" }), "token_algorithm_not_allowed"],
    ["alg in lower case", withHeader({ alg: "rs256" }), "token_algorithm_not_allowed"],
    ["alg with a blank", withHeader({ alg: "RS256 " }), "token_algorithm_not_allowed"],
    ["alg missing", sign(own, { kid: header.kid, typ: "at+jwt" }, claims), "token_header_malformed"],
    ["alg an array", withHeader({ alg: ["RS256"] }), "token_header_malformed"],
    ["alg null", withHeader({ alg: null }), "token_header_malformed"],
    ["HS256 with the public PEM as secret", hmac(pem), "token_algorithm_not_allowed"],
    ["HS256 with the public DER as secret", hmac(der), "token_algorithm_not_allowed"],
    ["HS256 with the JWK as secret", hmac(JSON.stringify(keys.issuer.jwk)), "token_algorithm_not_allowed"],
    [
      "HS256 with the modulus as secret",
      hmac(Buffer.from(keys.issuer.jwk.n, "base64url")),
      "token_algorithm_not_allowed",
    ],
    [
      "PS256 under the RS256 key",
      (() => {
        const input = `${b64(JSON.stringify({ ...header, alg: "PS256" }))}.${p}`;
        const pss = { key: own, padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
        return `${input}.${b64(crypto.sign("sha256", Buffer.from(input), pss))}`;
      })(),
      "token_algorithm_not_allowed",
    ],
    [
      "RS512 under the RS256 key",
      sign(own, { ...header, alg: "RS512" }, claims, "sha512"),
      "token_algorithm_not_allowed",
    ],
    ["alg says RS256, signed with SHA-512", sign(own, header, claims, "sha512"), "token_signature_invalid"],

    // Headers.
    [
      "the attacker's key in jwk",
      sign(keys.attacker.privateKey, { ...header, jwk: keys.attacker.jwk }, claims),
      "token_signature_invalid",
    ],
    [
      "the attacker's jku",
      sign(keys.attacker.privateKey, { ...header, kid: "evil", jku: "https://evil.example/jwks" }, claims),
      "token_key_unknown",
    ],
    [
      "the attacker's x5u",
      sign(keys.attacker.privateKey, { ...header, kid: "evil", x5u: "https://evil.example/cert" }, claims),
      "token_key_unknown",
    ],
    [
      "the attacker's x5c",
      sign(keys.attacker.privateKey, { ...header, x5c: ["AAAA"] }, claims),
      "token_signature_invalid",
    ],
    ["crit", withHeader({ crit: ["exp"] }), "token_header_extension"],
    ["an empty crit", withHeader({ crit: [] }), "token_header_extension"],
    ["b64 false", withHeader({ b64: false }), "token_header_extension"],
    ["zip", withHeader({ zip: "DEF" }), "token_header_extension"],
    [
      "a header member twice",
      raw(`{"alg":"RS256","alg":"RS256","kid":"${header.kid}","typ":"at+jwt"}`),
      "token_header_malformed",
    ],
    ["typ missing", sign(own, { alg: "RS256", kid: header.kid }, claims), "token_type_header_invalid"],
    ["typ of an ID token", withHeader({ typ: "JWT" }), "token_type_header_invalid"],
    ["typ of a gateway assertion", withHeader({ typ: "gateway+jwt" }), "token_type_header_invalid"],
    ["typ a number", withHeader({ typ: 7 }), "token_header_malformed"],

    // Keys.
    ...[
      ["unknown", "no-such-key"],
      ["a path", "../../etc/passwd"],
      ["SQL", "' OR 1=1 --"],
    ].map(([name, kid]) => [`kid ${name}`, withHeader({ kid }), "token_key_unknown"]),
    ["kid empty", withHeader({ kid: "" }), "token_key_unknown"],
    ["kid with NUL", withHeader({ kid: `${header.kid}\u0000` }), "token_key_unknown"],
    ["kid of 300 bytes", withHeader({ kid: "k".repeat(300) }), "token_key_unknown"],
    ["kid a number", withHeader({ kid: 7 }), "token_header_malformed"],
    ["kid of the key for encryption", withHeader({ kid: "for-encryption" }), "token_key_unknown"],
    [
      "signed by the RSA-1024 key of the set",
      sign(keys.weak.privateKey, { ...header, kid: keys.weak.kid }, claims),
      "token_key_unknown",
    ],
    [
      "signed by a key that is not published",
      sign(keys.unpublished.privateKey, { ...header, kid: keys.unpublished.kid }, claims),
      "token_key_unknown",
    ],
    ["signed by the attacker under the issuer's kid", other(keys.attacker.privateKey), "token_signature_invalid"],

    // Times.
    [
      "expired a second past the leeway",
      withClaims({ iat: now - 900, nbf: now - 900, exp: now - 31 }),
      "token_expired",
    ],
    ["expired long ago", withClaims({ iat: 1000, nbf: 1000, exp: 1900 }), "token_expired"],
    ["nbf in the future", withClaims({ nbf: now + 120 }), "token_not_yet_valid"],
    ["iat in the future", withClaims({ iat: now + 120 }), "token_not_yet_valid"],
    ["exp missing", sign(own, header, without("exp")), "token_dates_invalid"],
    ["iat missing", sign(own, header, without("iat")), "token_dates_invalid"],
    ["exp before iat", withClaims({ exp: now - 1 }), "token_dates_invalid"],
    ["a lifetime beyond the limit", withClaims({ exp: now + 3601 }), "token_lifetime_too_long"],
    ["nbf far negative", raw(null, payloadText.replace(`"nbf":${now}`, '"nbf":-8334601228800')), "token_dates_invalid"],
    ...dateCases.flatMap(([name, text]) =>
      ["exp", "nbf", "iat"].map((claim) => [
        `${claim} ${name}`,
        raw(null, payloadText.replace(new RegExp(`"${claim}":\\d+`), `"${claim}":${text}`)),
        "token_dates_invalid",
      ]),
    ),
    ["exp 1e400", dates({ exp: "1e400" }), "token_claims_malformed"],
    [
      "a fraction past the leeway",
      dates({ exp: `${now - 31}.5`, nbf: now - 900, iat: `${now - 900}.5` }),
      "token_expired",
    ],
    ["nbf a fraction in the future", dates({ nbf: `${now + 120}.5` }), "token_not_yet_valid"],
    ["iat a fraction in the future", dates({ iat: `${now + 120}.5` }), "token_not_yet_valid"],
    ["exp a fraction before iat", dates({ exp: `${now - 1}.5` }), "token_dates_invalid"],
    ["exp twice", raw(null, member(`"exp":${now + 901}`)), "token_claims_malformed"],

    // Issuer, audience, type.
    ["iss missing", sign(own, header, without("iss")), "token_issuer_unknown"],
    ["iss an array with the right one in it", withClaims({ iss: [ISSUER] }), "token_issuer_unknown"],
    ["iss in capitals", withClaims({ iss: "Auth-Service" }), "token_issuer_unknown"],
    ["iss with a trailing slash", withClaims({ iss: `${ISSUER}/` }), "token_issuer_unknown"],
    ["iss null", withClaims({ iss: null }), "token_issuer_unknown"],
    ["aud missing", sign(own, header, without("aud")), "token_audience_invalid"],
    ["aud of another service", withClaims({ aud: ["users"] }), "token_audience_invalid"],
    ["aud nested", withClaims({ aud: [[AUDIENCE]] }), "token_audience_invalid"],
    ["aud an object", withClaims({ aud: { [AUDIENCE]: true } }), "token_audience_invalid"],
    ["aud empty", withClaims({ aud: [] }), "token_audience_invalid"],
    ["aud in capitals", withClaims({ aud: "API" }), "token_audience_invalid"],
    ["token_type missing", sign(own, header, without("token_type")), "token_type_invalid"],
    [
      "a service token",
      withClaims({ token_type: "service", roles: ["service", "auth-service"] }),
      "token_type_invalid",
    ],
    ["a refresh token in JWT form", withClaims({ token_type: "refresh" }), "token_type_invalid"],
    ["token_type an array", withClaims({ token_type: ["access"] }), "token_type_invalid"],
    ["an opaque refresh token", b64(crypto.randomBytes(32)), "token_malformed"],

    // Identity.
    ["sub missing", sign(own, header, without("sub")), "token_identity_invalid"],
    ["sub empty", withClaims({ sub: "" }), "token_identity_invalid"],
    ["sub a number", withClaims({ sub: 7 }), "token_identity_invalid"],
    ["e-mail with CR LF", withClaims({ email: "a@b.c\r\nX-User-Roles: admin" }), "token_identity_invalid"],
    ["e-mail with NUL", withClaims({ email: "a@b.c\u0000" }), "token_identity_invalid"],
    ["a role with CR LF", withClaims({ roles: ["user\r\nX-User-Roles: admin"] }), "token_identity_invalid"],
    ["a role with NUL", withClaims({ roles: ["user\u0000"] }), "token_identity_invalid"],
    ["roles a string with CR LF", withClaims({ roles: "user\r\nX-User-Roles: admin" }), "token_identity_invalid"],
    ["sub null", withClaims({ sub: null }), "token_identity_invalid"],
    ...["email", "roles", "scope", "sid", "jti"].flatMap((claim) =>
      [
        ["a number", 7],
        ["true", true],
        ["an object", { 0: "admin" }],
      ].map(([name, value]) => [`${claim} ${name}`, withClaims({ [claim]: value }), "token_identity_invalid"]),
    ),
    ...["email", "sid", "jti"].map((claim) => [
      `${claim} a list`,
      withClaims({ [claim]: ["a"] }),
      "token_identity_invalid",
    ]),
    ["roles with a number among them", withClaims({ roles: ["user", 7] }), "token_identity_invalid"],
    ["scope with a number among them", withClaims({ scope: ["read", 7] }), "token_identity_invalid"],
    ["scp a number", withClaims({ scp: 7 }), "token_identity_invalid"],
    ["two thousand roles", withClaims({ roles: Array(2000).fill("r") }), "token_identity_invalid"],

    // Signature and form.
    ["no signature", `${h}.${p}.`, "token_signature_invalid"],
    ["a signature of 21,830 characters", `${h}.${p}.${"A".repeat(21830)}`, "token_too_large"],
    ["a signature of 2,000 bytes", `${h}.${p}.${b64(Buffer.alloc(2000))}`, "token_too_large"],
    ["a signature of one byte", `${h}.${p}.AA`, "token_signature_invalid"],
    ["a signature of zeros", `${h}.${p}.${b64(Buffer.alloc(256))}`, "token_signature_invalid"],
    [
      "the signature of another token",
      `${h}.${p}.${withClaims({ jti: "other" }).split(".")[2]}`,
      "token_signature_invalid",
    ],
    [
      "a signature with a leading zero byte",
      `${h}.${p}.${b64(Buffer.concat([Buffer.alloc(1), Buffer.from(s, "base64url")]))}`,
      "token_signature_invalid",
    ],
    ...[0, 1, 1023, 2040, 2047].map((bit) => [
      `bit ${bit} of the signature flipped`,
      `${h}.${p}.${flip(s, bit)}`,
      "token_signature_invalid",
    ]),
    [
      "roles changed, signature kept",
      `${h}.${b64(JSON.stringify({ ...claims, roles: ["admin"] }))}.${s}`,
      "token_signature_invalid",
    ],
    ["trailing bits in the signature", `${h}.${p}.${trailing}`, "token_malformed"],
    ["padding", `${h}.${p}.${s}==`, "token_malformed"],
    [
      "standard base64",
      `${h}.${p}.${Buffer.from(s, "base64url").toString("base64").replace(/=+$/, "").replace(/^../, "+/")}`,
      "token_malformed",
    ],
    ["one part", h, "token_malformed"],
    ["two parts", `${h}.${p}`, "token_malformed"],
    ["four parts", `${good}.${s}`, "token_malformed"],
    ["five parts", `${good}.${s}.${s}`, "token_malformed"],
    ["empty parts", "..", "token_header_malformed"],
    ["16 KB and a byte", `${h}.${p}.${"A".repeat(16 * 1024 + 1 - h.length - p.length - 2)}`, "token_too_large"],
    ["payload not JSON", raw(null, "not json"), "token_claims_malformed"],
    ["payload an array", raw(null, "[]"), "token_claims_malformed"],
    ["payload empty", raw(null, ""), "token_claims_malformed"],
    ["payload with text behind", raw(null, `${payloadText} x`), "token_claims_malformed"],
    ["payload of nested arrays", raw(null, `{"a":${"[".repeat(2500)}${"]".repeat(2500)}}`), "token_claims_malformed"],
    ["payload with a name twice, deep", raw(null, member('"a":{"b":1,"b":2}')), "token_claims_malformed"],
    ["payload with the same name escaped", raw(null, member('"\\u0065xp":1')), "token_claims_malformed"],
    ["payload not UTF-8", raw(null, Buffer.from(member('"a":"\xff"'), "latin1")), "token_claims_malformed"],
  ];
}
