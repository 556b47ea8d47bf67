// An issuer of tokens for development: a client that reaches it gets a token of any user, without a password. So it
// listens on loopback only. Its key is in a private file of the project, so tokens survive a restart.

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { SignJWT, calculateJwkThumbprint, exportJWK, importJWK } from "jose";

import { parseJson, readIfThere } from "./files.js";
import { listenOnLoopback, refusal } from "./loopback-server.js";

/**
 * @import { JWK } from "jose"
 * @import { Reply } from "./loopback-server.js"
 * @import { Issuer } from "./policy-document.js"
 * @typedef {{ user: string, roles: string[], scopes: string[] }} Login
 */

/** Name of the issuer in the policy. */
export const DEVELOPMENT_ISSUER = "development";

const ALGORITHM = "ES256";

// Seconds that a token is valid.
const LIFETIME_S = 3600;

// Characters of a user's id or of a list of roles or scopes, within the gateway's own bounds.
const TEXT_CHARS = 256;

/**
 * Starts the issuer at the URL of its policy.
 * @param {{ issuer: Issuer, keyFile: string, example: (user: string) => string }} options `example` returns a URL of the
 * gateway to show to a user
 */
export async function startDevelopmentIssuer({ issuer: { issuer, audience = [] }, keyFile, example }) {
  const key = await readKey(keyFile);
  const { d: _, ...publicKey } = key;
  const signingKey = await importJWK(key, ALGORITHM);
  /** @param {Login} login */
  const issue = ({ user, roles, scopes }) => {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({ roles, scope: scopes.join(" ") })
      .setProtectedHeader({ alg: ALGORITHM, typ: "at+jwt", kid: key.kid })
      .setIssuer(issuer)
      .setAudience(audience)
      .setSubject(user)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setExpirationTime(now + LIFETIME_S)
      .sign(signingKey);
  };
  const base = issuer.replace(/\/$/, "");
  const settings = `issuer and jwks_url of [issuers.${DEVELOPMENT_ISSUER}]`;
  return listenOnLoopback({ what: "the development issuer", url: issuer, settings }, async (request, body) => {
    const { pathname, searchParams } = new URL(request.url ?? "/", base);
    switch (`${request.method} ${pathname}`) {
      case "GET /.well-known/openid-configuration":
        return json({ issuer, jwks_uri: `${base}/jwks.json`, token_endpoint: `${base}/token` });
      case "GET /jwks.json":
        return json({ keys: [{ ...publicKey, alg: ALGORITHM, use: "sig" }] });
      case "GET /":
        return page(loginPage(readLogin(searchParams) ?? { user: "ada", roles: ["user"], scopes: [] }));
      case "POST /": {
        const login = readLogin(new URLSearchParams(body.toString("utf8")));
        return login === undefined
          ? refusal(400, INVALID)
          : page(tokenPage(login, await issue(login), example(login.user)));
      }
      case "POST /token": {
        const login = readLogin(new URLSearchParams(body.toString("utf8")));
        if (login === undefined) return refusal(400, INVALID);
        return json({ access_token: await issue(login), token_type: "Bearer", expires_in: LIFETIME_S });
      }
      default:
        return refusal(404, "Not found.");
    }
  });
}

const INVALID = `user is needed; user, roles and scopes have at most ${TEXT_CHARS} characters.`;

/**
 * Reads the key, or makes one.
 * @param {string} file
 * @returns {Promise<JWK & { kid: string }>}
 */
async function readKey(file) {
  const known = parseJson(readIfThere(file) ?? "");
  if (known?.kty === "EC" && typeof known.d === "string" && typeof known.kid === "string") return known;
  const jwk = await exportJWK(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
  const key = { ...jwk, kid: await calculateJwkThumbprint(jwk) };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify(key)}\n`, { mode: 0o600 });
  return key;
}

/**
 * @param {URLSearchParams} form
 * @returns {Login | undefined}
 */
function readLogin(form) {
  const [user, roles, scopes] = ["user", "roles", "scopes"].map((name) => form.get(name) ?? "");
  if (user === "" || [user, roles, scopes].some((text) => text.length > TEXT_CHARS)) return undefined;
  /** @param {string} text */
  const list = (text) => text.split(/[\s,]+/).filter(Boolean);
  return { user, roles: list(roles), scopes: list(scopes) };
}

/**
 * @param {object} value
 * @returns {Reply}
 */
const json = (value) => ({ body: JSON.stringify(value) });

const STYLE = `:root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}
label{display:block;margin:.75rem 0}input{font:inherit;display:block;width:100%;box-sizing:border-box;padding:.4rem}
button{font:inherit;padding:.4rem 1.2rem}pre{white-space:pre-wrap;overflow-wrap:anywhere;padding:.75rem;border:1px solid;border-radius:4px}`;

/**
 * @param {string} content
 * @returns {Reply}
 */
const page = (content) => ({
  type: "text/html; charset=utf-8",
  headers: {
    "content-security-policy":
      "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
  },
  body: `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Development login</title><style>${STYLE}</style></head>
<body><main><h1>Development login</h1>
<p>This issuer is for development on this machine. It checks no password: it issues a token of any user.</p>
${content}
</main></body></html>
`,
});

/** @param {Login} login */
const loginPage = ({ user, roles, scopes }) => `<form method="post" action="/">
<label>User <input name="user" value="${escapeHtml(user)}" maxlength="${TEXT_CHARS}" required autofocus></label>
<label>Roles <input name="roles" value="${escapeHtml(roles.join(" "))}" maxlength="${TEXT_CHARS}"></label>
<label>Scopes <input name="scopes" value="${escapeHtml(scopes.join(" "))}" maxlength="${TEXT_CHARS}"></label>
<button>Log in</button>
</form>`;

/**
 * @param {Login} login
 * @param {string} token
 * @param {string} url
 */
const tokenPage = ({ user }, token, url) => `<p>A token of <strong>${escapeHtml(user)}</strong>, valid for an hour:</p>
<pre id="token">${token}</pre>
<p>Use it:</p>
<pre>curl -i ${escapeHtml(url)} -H "authorization: Bearer ${token}"</pre>
<p><a href="/">Log in as another user</a></p>`;

/** @param {string} text */
const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
