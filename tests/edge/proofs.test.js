// Sender-constrained tokens (RFC 9449) with clients of others: oauth4webapi gets a token that is bound to its key from
// oidc-provider, and uses it at the gateway. dpop makes proofs by itself.

import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, randomBytes } from "node:crypto";
import { before, describe, test } from "node:test";

import * as dpop from "dpop";
import { SignJWT } from "jose";
import * as oauth from "oauth4webapi";
import { Provider } from "oidc-provider";

import { probePort } from "../../cli/lib/ports.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const GATEWAY = "https://api.example.com";
const CLIENT = { client_id: "agent" };

const DEVICE = generateKeyPairSync("ed25519");

const policy = (issuer) => `
public_url = "${GATEWAY}"

[issuers.provider]
issuer = "${issuer}"
audience = ["${GATEWAY}/"]
algorithms = ["RS256"]
types = ["at+jwt"]
discovery = true
revocable = true
proof = "optional"

[issuers.mtls]
issuer = "https://mtls.example"
audience = ["${GATEWAY}/"]
algorithms = ["EdDSA"]
jwks = '${JSON.stringify({ keys: [DEVICE.publicKey.export({ format: "jwk" })] })}'
proof = "optional"

[upstreams.users]
url = "http://127.0.0.1:1"

[upstreams.auth]
url = "http://127.0.0.1:2"

[cors.app]
origins = ["https://app.example"]

[[routes]]
path = "/things/{id}"
methods = ["GET", "POST"]
upstream = "users"
access = "user"
cors = "app"

[[routes]]
path = "/money"
methods = ["GET", "POST"]
upstream = "users"
access = "user"
proof = "required"

[[routes]]
path = "/once"
methods = ["GET"]
upstream = "users"
access = "user"
revocation = "strict"

[[routes]]
path = "/login"
methods = ["POST"]
upstream = "auth"
access = "public"
`;

describe("proofs of possession", () => {
  let auth, users, edge, server;

  before(async () => {
    const port = await probePort(0);
    const issuer = `http://127.0.0.1:${port}`;
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const provider = new Provider(issuer, {
      clients: [
        {
          ...CLIENT,
          client_secret: remember("a secret of the agent"),
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
        },
      ],
      jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "rsa-1", use: "sig" }] },
      enabledJWA: { dPoPSigningAlgValues: ["ES256", "Ed25519", "RS256", "PS256"] },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        dPoP: { enabled: true },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_context, resource) => ({
            scope: "api",
            audience: resource,
            accessTokenFormat: "jwt",
            jwt: { sign: { alg: "RS256" } },
          }),
        },
      },
    });
    const listening = provider.listen(port, "127.0.0.1");
    await new Promise((resolve) => listening.once("listening", resolve));
    scope.after(() => new Promise((resolve) => listening.close(resolve)));
    [users, auth] = [await startUpstream(scope), await startUpstream(scope)];
    edge = await startEdge(scope, { users, auth, twin: true, policy: { text: policy(issuer) } });
    const discovered = await oauth.discoveryRequest(new URL(issuer), network);
    server = await oauth.processDiscoveryResponse(new URL(issuer), discovered);
  });

  // The network of a client: DNS leads api.example.com to the gateway.
  const network = {
    [oauth.allowInsecureRequests]: true,
    [oauth.customFetch]: async (url, { method, headers, body } = {}) => {
      if (!url.startsWith(`${GATEWAY}/`)) return fetch(url, { method, headers, body });
      const sent = [...new Headers(headers), ["host", "api.example.com"]];
      const answer = await edge.send({
        method,
        path: url.slice(GATEWAY.length),
        headers: sent,
        body: body ?? undefined,
      });
      return new Response(answer.body, { status: answer.status, headers: answer.headers });
    },
  };

  // A token for the gateway, bound to the key of `handle` if there is one.
  async function tokenFor(handle) {
    const secret = oauth.ClientSecretBasic("a secret of the agent");
    const parameters = new URLSearchParams({ scope: "api", resource: `${GATEWAY}/` });
    const options = { ...network, ...(handle && { DPoP: handle }) };
    const response = await oauth.clientCredentialsGrantRequest(server, CLIENT, secret, parameters, options);
    const granted = await oauth.processClientCredentialsResponse(server, CLIENT, response);
    assert.equal(granted.token_type, handle ? "dpop" : "bearer");
    return remember(granted.access_token);
  }

  const call = (token, method, path, handle) =>
    oauth.protectedResourceRequest(token, method, new URL(GATEWAY + path), undefined, null, {
      ...network,
      ...(handle && { DPoP: handle }),
    });

  const refusal = async (request) => {
    const error = await request.then(
      (response) => assert.fail(`it is ${response.status}`),
      (error) => error,
    );
    assert.ok(error instanceof oauth.WWWAuthenticateChallengeError, error);
    return { status: error.status, challenges: error.cause };
  };

  for (const algorithm of ["ES256", "Ed25519", "RS256", "PS256"]) {
    test(`of a client with an ${algorithm} key are accepted`, async () => {
      const keys = await oauth.generateKeyPair(algorithm);
      const handle = oauth.DPoP(CLIENT, keys);
      const token = await tokenFor(handle);
      for (const [method, path] of [
        ["GET", "/things/1?part=2"],
        ["POST", "/things/1"],
        ["GET", "/money"],
        ["GET", "/things/a%20b"],
      ]) {
        users.forget();
        assert.equal((await call(token, method, path, handle)).status, 200, path);
        const [{ headers }] = users.requests;
        assert.equal(headers["x-user-id"], "agent");
        assert.equal(headers.dpop, undefined);
        assert.equal(headers.authorization, undefined);
      }
      const proof = await dpop.generateProof(keys, `${GATEWAY}/money`, "GET", undefined, token);
      const headers = { authorization: `DPoP ${token}`, dpop: proof };
      assert.equal((await edge.send({ path: "/money", headers })).status, 200);
      const replayed = await edge.send({ path: "/money", headers });
      assert.equal(replayed.status, 401);
      assert.equal(JSON.parse(replayed.body).code, "proof_replayed");
    });
  }

  test("are needed for bound tokens, and their absence is explained to clients", async () => {
    const handle = oauth.DPoP(CLIENT, await oauth.generateKeyPair("ES256"));
    const token = await tokenFor(handle);
    const { status, challenges } = await refusal(call(token, "GET", "/things/1"));
    assert.equal(status, 401);
    assert.deepEqual(
      challenges.map(({ scheme, parameters }) => [scheme, parameters.error, parameters.algs]),
      [
        ["bearer", "invalid_token", undefined],
        ["dpop", undefined, "ES256 EdDSA RS256 PS256"],
      ],
    );
    // A thief of the token, with a key of its own.
    const thief = oauth.DPoP(CLIENT, await oauth.generateKeyPair("ES256"));
    const stolen = await refusal(call(token, "GET", "/things/1", thief));
    assert.equal(stolen.challenges[0].scheme, "dpop");
    assert.equal(stolen.challenges[0].parameters.error, "invalid_token");
  });

  test("are optional for bearer tokens, unless the route needs them", async () => {
    const token = await tokenFor();
    assert.equal((await call(token, "GET", "/things/1")).status, 200);
    const { status, challenges } = await refusal(call(token, "GET", "/money"));
    assert.equal(status, 401);
    assert.deepEqual(
      challenges.map(({ scheme, parameters }) => [scheme, parameters.error]),
      [["dpop", "invalid_token"]],
    );
    // Nor does a proof turn a bearer token into a bound one.
    const handle = oauth.DPoP(CLIENT, await oauth.generateKeyPair("ES256"));
    assert.equal((await refusal(call(token, "GET", "/money", handle))).status, 401);
  });

  test("of another URL, method, token or time are refused", async () => {
    const keys = await dpop.generateKeyPair("ES256");
    const handle = oauth.DPoP(CLIENT, keys);
    const token = await tokenFor(handle);
    const send = async (...parameters) => {
      const proof = await dpop.generateProof(keys, ...parameters);
      const answer = await edge.send({ path: "/money", headers: { authorization: `DPoP ${token}`, dpop: proof } });
      return [answer.status, answer.status === 200 ? "ok" : JSON.parse(answer.body).code];
    };
    assert.deepEqual(await send(`${GATEWAY}/money`, "GET", undefined, token), [200, "ok"]);
    assert.deepEqual(await send(`${GATEWAY}/money/`, "GET", undefined, token), [401, "proof_url_mismatch"]);
    assert.deepEqual(await send(`${edge.url}/money`, "GET", undefined, token), [401, "proof_url_mismatch"]);
    assert.deepEqual(await send(`${GATEWAY}/money`, "POST", undefined, token), [401, "proof_method_mismatch"]);
    assert.deepEqual(await send(`${GATEWAY}/money`, "GET"), [401, "proof_token_mismatch"]);
    const other = await tokenFor(handle);
    assert.deepEqual(await send(`${GATEWAY}/money`, "GET", undefined, other), [401, "proof_token_mismatch"]);
    for (const shift of [-120, 120]) {
      // dpop cannot set `iat`, and oauth4webapi has a clock that can be shifted.
      const shifted = oauth.DPoP({ ...CLIENT, [oauth.clockSkew]: shift }, keys);
      const { challenges } = await refusal(call(token, "GET", "/money", shifted));
      assert.equal(challenges[0].parameters.error, "invalid_dpop_proof", shift);
    }
  });

  test("are used once by all isolates on strict routes", async () => {
    const keys = await dpop.generateKeyPair("ES256");
    const token = await tokenFor(oauth.DPoP(CLIENT, keys));
    const send = async (path) => {
      const proof = await dpop.generateProof(keys, `${GATEWAY}${path}`, "GET", undefined, token);
      const request = { path, headers: { authorization: `DPoP ${token}`, dpop: proof } };
      const [first, second] = [await edge.send(request), await edge.twin(request)];
      return [first.status, second.status, second.json.code];
    };
    assert.deepEqual((await send("/things/1")).slice(0, 2), [200, 200]);
    assert.deepEqual(await send("/once"), [200, 401, "proof_replayed"]);
  });

  const certificates = { skip: onlyOnPlatform("no client certificates") };
  test("are replaced by client certificates where a token is bound to one", certificates, async () => {
    const certificate = createHash("sha256").update("certificate");
    const digest = certificate.digest();
    const claims = {
      iss: "https://mtls.example",
      aud: `${GATEWAY}/`,
      sub: "device",
      cnf: { "x5t#S256": digest.toString("base64url") },
    };
    const token = remember(
      await new SignJWT(claims)
        .setProtectedHeader({ alg: "EdDSA" })
        .setIssuedAt()
        .setExpirationTime("5m")
        .sign(DEVICE.privateKey),
    );
    // Miniflare takes the platform's facts from this header.
    const send = async (tlsClientAuth) => {
      const headers = { authorization: `Bearer ${token}`, "MF-CF-Blob": JSON.stringify({ tlsClientAuth }) };
      const answer = await edge.send({ path: "/money", headers });
      return answer.status === 200 ? "ok" : JSON.parse(answer.body).code;
    };
    const facts = { certPresented: "1", certVerified: "SUCCESS", certRevoked: "0" };
    const shown = { ...facts, certFingerprintSHA256: digest.toString("hex") };
    for (const [expected, sent] of [
      ["ok", shown],
      ["certificate_mismatch", { ...shown, certFingerprintSHA256: "00".repeat(32) }],
      ["certificate_mismatch", { ...shown, certVerified: "FAILED:self signed certificate" }],
      ["certificate_mismatch", { ...shown, certVerified: "NONE" }],
      ["certificate_mismatch", { ...shown, certRevoked: "1" }],
      ["certificate_mismatch", { ...facts, certFingerprintSHA256: [shown.certFingerprintSHA256] }],
      ["certificate_mismatch", facts],
      ["certificate_mismatch", null],
      ["certificate_mismatch", undefined],
    ]) {
      assert.equal(await send(sent), expected, JSON.stringify(sent));
    }
    // Headers of other proxies are no facts.
    for (const name of ["Client-Cert", "X-Client-Cert", "X-SSL-Client-Cert", "Cf-Client-Cert-Sha256"]) {
      const headers = { authorization: `Bearer ${token}`, [name]: digest.toString("hex") };
      assert.equal((await edge.send({ path: "/money", headers })).status, 401, name);
    }
  });

  test("of a login are for the service", async () => {
    const proof = await dpop.generateProof(await dpop.generateKeyPair("ES256"), `${GATEWAY}/login`, "POST");
    assert.equal((await edge.send({ method: "POST", path: "/login", headers: { dpop: proof } })).status, 200);
    assert.equal(auth.requests.at(-1).headers.dpop, proof);
  });

  test("can be sent by listed pages", async () => {
    const headers = {
      origin: "https://app.example",
      "access-control-request-method": "GET",
      "access-control-request-headers": "authorization,dpop",
    };
    const preflight = await edge.send({ method: "OPTIONS", path: "/things/1", headers });
    assert.equal(preflight.status, 204);
    assert.match(preflight.headers["access-control-allow-headers"], /(^|, )dpop(,|$)/);
  });

  test("leave no token and no proof in the log", async () => {
    const keys = await dpop.generateKeyPair("ES256");
    const token = await tokenFor(oauth.DPoP(CLIENT, keys));
    const proof = remember(await dpop.generateProof(keys, `${GATEWAY}/money`, "POST", undefined, token));
    const answer = await edge.send({ path: "/money", headers: { authorization: `DPoP ${token}`, dpop: proof } });
    assert.equal((await edge.lineOf(answer)).code, "proof_method_mismatch");
    assert.ok(!edge.output.includes(token) && !edge.output.includes(proof));
  });

  test("have the gateway's nonce where the deployment asks for it", async () => {
    await edge.restart({ vars: { DPOP_NONCE_KEYS: `n1:${randomBytes(32).toString("base64url")}` } });
    const handle = oauth.DPoP(CLIENT, await oauth.generateKeyPair("ES256"));
    const token = await tokenFor(handle);
    const refused = await call(token, "GET", "/money", handle).then(
      (response) => assert.fail(`it is ${response.status}`),
      (error) => error,
    );
    assert.ok(oauth.isDPoPNonceError(refused), refused);
    // The handle has kept the nonce of the refusal.
    for (const path of ["/money", "/things/1", "/once"]) {
      assert.equal((await call(token, "GET", path, handle)).status, 200, path);
    }
    assert.equal((await refusal(call(token, "GET", "/money"))).status, 401);
    const headers = { origin: "https://app.example" };
    const exposed = (await edge.get("/things/1", { headers })).headers["access-control-expose-headers"];
    assert.match(exposed, /(^|, )dpop-nonce(,|$)/);
  });
});
