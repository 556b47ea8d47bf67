// Tokens of independent implementations: PyJWT, and an OpenID provider found by discovery.

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { before, describe, test } from "node:test";

import { Provider } from "oidc-provider";

import { probePort } from "../../cli/lib/ports.js";
import { makeAssertionKey } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { noPython, python } from "../harness/python.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

const policyFor = ({ issuer, algorithms = ALGORITHMS, keys, more = "" }) => `
[issuers.foreign]
issuer = "${issuer}"
audience = ["shop-api"]
algorithms = ${JSON.stringify(algorithms)}
types = ["at+jwt"]
${keys}
${more}
[upstreams.shop]
url = "http://127.0.0.1:1"

[[routes]]
path = "/orders"
methods = ["GET"]
upstream = "shop"
access = "user"

[[routes]]
path = "/ops"
methods = ["GET"]
upstream = "shop"
access = { roles = ["ops"] }
`;

describe("PyJWT", { skip: noPython }, () => {
  test("its tokens of every algorithm are accepted, by WebCrypto and in Rust", async () => {
    const shop = await startUpstream(scope);
    const now = Math.floor(Date.now() / 1000);
    const claims = { iss: "py", aud: "shop-api", sub: "u1", iat: now, nbf: now, exp: now + 600 };
    const { jwks, tokens } = python("sign", { claims, algorithms: ALGORITHMS });
    shop.answer("GET /jwks", { json: jwks });
    const edge = await startEdge(scope, {
      policy: { text: policyFor({ issuer: "py", keys: 'jwks_upstream = "shop"\njwks_path = "/jwks"' }) },
      vars: { UPSTREAM_SHOP_URL: shop.url, ASSERTION_KEYS_SHOP: makeAssertionKey() },
    });
    for (const backend of ["webcrypto", "rust"]) {
      await edge.restart({ vars: { SIGNATURE_BACKEND: backend } });
      for (const [algorithm, token] of Object.entries(tokens)) {
        remember(token);
        const name = `${algorithm} by ${backend}`;
        const answer = await edge.get("/orders", { token });
        assert.equal(answer.status, 200, `${name}: ${answer.body}`);
        const [header, payload, signature] = token.split(".");
        const flipped = Buffer.from(signature, "base64url");
        flipped[7] ^= 1;
        const bad = `${header}.${payload}.${flipped.toString("base64url")}`;
        assert.equal((await edge.get("/orders", { token: bad })).status, 401, name);
        const other = ALGORITHMS[(ALGORITHMS.indexOf(algorithm) + 1) % ALGORITHMS.length];
        const renamed = { ...JSON.parse(Buffer.from(header, "base64url")), alg: other };
        const confused = `${Buffer.from(JSON.stringify(renamed)).toString("base64url")}.${payload}.${signature}`;
        assert.equal((await edge.get("/orders", { token: confused })).status, 401, `${name} named ${other}`);
      }
    }
  });
});

describe("a real OpenID provider", () => {
  let edge, issuer, shop;

  const resources = { RS256: "https://rs.example", ES256: "https://es.example", EdDSA: "https://ed.example" };

  before(async () => {
    shop = await startUpstream(scope);
    const port = await probePort(0);
    issuer = `http://127.0.0.1:${port}`;
    const jwk = (kind, options, kid) => ({
      ...generateKeyPairSync(kind, options).privateKey.export({ format: "jwk" }),
      kid,
      use: "sig",
    });
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: "shop-web",
          client_secret: remember("a secret of the shop's web client"),
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
        },
      ],
      jwks: {
        keys: [
          jwk("rsa", { modulusLength: 2048 }, "rsa-1"),
          jwk("ec", { namedCurve: "P-256" }, "ec-1"),
          jwk("ed25519", {}, "ed-1"),
        ],
      },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_context, resource) => ({
            scope: "read write",
            audience: resource === "https://other.example" ? "other-api" : "shop-api",
            accessTokenFormat: resource === "https://opaque.example" ? "opaque" : "jwt",
            jwt: {
              sign: { alg: Object.keys(resources).find((alg) => resources[alg] === resource) ?? "RS256" },
            },
          }),
        },
      },
      extraTokenClaims: () => ({ realm_access: { roles: ["ops"] } }),
    });
    const server = provider.listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    scope.after(() => new Promise((resolve) => server.close(resolve)));
    edge = await startEdge(scope, {
      policy: {
        text: policyFor({
          issuer,
          // Its keys name no algorithm, so the set may hold only one of each type.
          algorithms: Object.keys(resources),
          keys: "discovery = true",
          more: 'claims = { roles = ["realm_access", "roles"] }\nrequire = [{ claim = "client_id", equals = "shop-web" }]',
        }),
      },
      vars: { UPSTREAM_SHOP_URL: shop.url, ASSERTION_KEYS_SHOP: makeAssertionKey() },
    });
  });

  async function tokenFor(resource) {
    const response = await fetch(`${issuer}/token`, {
      method: "POST",
      headers: {
        authorization: `Basic ${Buffer.from("shop-web:a%20secret%20of%20the%20shop%27s%20web%20client").toString("base64")}`,
      },
      body: new URLSearchParams({ grant_type: "client_credentials", resource, scope: "read" }),
    });
    const body = await response.json();
    assert.equal(response.status, 200, JSON.stringify(body));
    return remember(body.access_token);
  }

  for (const [algorithm, resource] of Object.entries(resources)) {
    test(`its JWT access token by ${algorithm} opens what its roles may enter`, async () => {
      const token = await tokenFor(resource);
      const header = JSON.parse(Buffer.from(token.split(".")[0], "base64url"));
      assert.equal(header.alg, algorithm);
      shop.forget();
      for (const path of ["/orders", "/ops"]) {
        const answer = await edge.get(path, { token });
        assert.equal(answer.status, 200, answer.body);
      }
      assert.equal(shop.requests[0].headers["x-user-id"], "shop-web");
      assert.equal(shop.requests[0].headers["x-user-roles"], "ops");
    });
  }

  test("a signature of any other length is refused, and is no fault of the gateway", async () => {
    for (const resource of Object.values(resources)) {
      const [header, payload] = (await tokenFor(resource)).split(".");
      for (const bytes of [1, 63, 65, 255, 257, 1024]) {
        const signature = Buffer.alloc(bytes, 1).toString("base64url");
        const answer = await edge.get("/orders", { token: `${header}.${payload}.${signature}` });
        assert.equal(answer.status, 401, `${resource}, ${bytes} bytes: ${answer.body}`);
        assert.equal(answer.json().code, "token_signature_invalid", `${resource}, ${bytes} bytes`);
      }
    }
  });

  test("its token for another API, and an opaque one, are refused", async () => {
    for (const resource of ["https://other.example", "https://opaque.example"])
      assert.equal((await edge.get("/orders", { token: await tokenFor(resource) })).status, 401, resource);
  });
});
