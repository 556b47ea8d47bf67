// Introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414) of the auth service, with a client of others
// (oauth4webapi) that knows only the issuer's URL, and a policy with the same issuer.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import * as dpop from "dpop";
import { createRemoteJWKSet, customFetch, jwtVerify } from "jose";
import * as oauth from "oauth4webapi";

import { NODE, ROOT } from "../../scripts/lib/paths.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const ISSUER = "https://api.example.com";
const APP = { client_id: "app" };
const SERVICE = { client_id: "user-service" };

describe("the auth service as an authorization server", () => {
  let stack, account, as, secret;

  // The issuer's host is the gateway.
  const toGateway = (url, init) => fetch(url.replace(ISSUER, stack.edge.url), init);
  const options = { [oauth.customFetch]: toGateway };

  before(async () => {
    stack = await startStack(scope, { env: { TOKEN_ISSUER: ISSUER, PUBLIC_URL: ISSUER } });
    appendFileSync(join(stack.data, "edge.vars"), 'POLICY_REREAD_S="1"\n');
    await stack.edge.restart();
    const file = join(temporaryFolder(scope, "policy"), "gateway.toml");
    const shipped = readFileSync(join(ROOT, "gateway.toml"), "utf8");
    writeFileSync(file, shipped.replace('issuer = "auth-service"', `issuer = "${ISSUER}"`));
    const { status, stderr } = spawnSync(NODE, [join(ROOT, "scripts/policy-push.js"), "--file", file], {
      cwd: ROOT,
      env: { ...process.env, DATA_DIR: stack.data },
      encoding: "utf8",
    });
    assert.equal(status, 0, stderr);
    ({ account } = await stack.register());
    const session = await stack.login(account);
    await until("the policy is in use", async () => (await me(session)).status === 200);
    const discovered = await oauth.discoveryRequest(new URL(ISSUER), { algorithm: "oauth2", ...options });
    as = await oauth.processDiscoveryResponse(new URL(ISSUER), discovered);
    secret = stack.secrets.SERVICE_SECRET_USER_SERVICE;
  });

  const me = (session) => stack.send({ path: "/api/v1/auth/me", headers: session.bearer });
  const revoke = async (token) =>
    oauth.processRevocationResponse(await oauth.revocationRequest(as, APP, oauth.None(), token, options));

  // Services ask the auth service directly; the metadata do not name this address.
  async function introspect(token, given = secret) {
    const internal = { ...as, introspection_endpoint: `${stack.auth.url}/api/v1/auth/introspect` };
    const answer = await oauth.introspectionRequest(internal, SERVICE, oauth.ClientSecretBasic(given), token, {
      [oauth.allowInsecureRequests]: true,
    });
    return oauth.processIntrospectionResponse(internal, SERVICE, answer);
  }

  test("is found by its issuer, and its keys verify its tokens", async () => {
    assert.equal(as.issuer, ISSUER);
    assert.equal(as.introspection_endpoint, undefined);
    const session = await stack.login(account);
    const keys = createRemoteJWKSet(new URL(as.jwks_uri), { [customFetch]: toGateway });
    const { payload } = await jwtVerify(session.accessToken, keys, {
      issuer: as.issuer,
      audience: "api",
      typ: "at+jwt",
    });
    assert.equal(payload.sub, session.user.id);
  });

  test("ends a session by its refresh token or its access token, and answers others alike", async () => {
    for (const name of ["refreshToken", "accessToken"]) {
      const session = await stack.login(account);
      const other = await stack.login(account);
      assert.equal((await me(session)).status, 200);
      assert.equal((await introspect(session.accessToken)).active, true);
      await revoke(session[name]);
      assert.deepEqual(await introspect(session.accessToken), { active: false }, name);
      // The gateway learns of it by the push, whose token has the same issuer.
      await until("the gateway refuses it", async () => (await me(session)).status === 401);
      assert.equal((await me(other)).status, 200);
      await revoke(session[name]);
    }
    await revoke("unknown");
    await assert.rejects(
      async () =>
        oauth.processRevocationResponse(
          await oauth.revocationRequest(as, APP, oauth.None(), "x", {
            ...options,
            [oauth.customFetch]: (url, init) => toGateway(url, { ...init, body: "token=x&token=y" }),
          }),
        ),
      { name: "ResponseBodyError", error: "invalid_request" },
    );
  });

  test("says what a token is, and of others only that they are not active", async () => {
    const session = await stack.login(account);
    const active = await introspect(session.accessToken);
    assert.equal(active.iss, ISSUER);
    assert.deepEqual([active.sub, active.token_type, active.roles], [session.user.id, "Bearer", ["user"]]);
    assert.deepEqual(await introspect(session.refreshToken), { active: false });
    await assert.rejects(introspect(session.accessToken, "another secret"), { name: "WWWAuthenticateChallengeError" });
    const through = await stack.send({
      method: "POST",
      path: "/api/v1/auth/introspect",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: `token=${session.accessToken}`,
    });
    assert.equal(through.status, 404, "the gateway does not route it");
  });

  test("names the key of a bound token, with an algorithm of the metadata", async () => {
    const [algorithm] = as.dpop_signing_alg_values_supported;
    const pair = await dpop.generateKeyPair(algorithm);
    const proof = await dpop.generateProof(pair, `${ISSUER}/api/v1/auth/login`, "POST");
    const { email, password } = account;
    const answer = await stack.send({
      method: "POST",
      path: "/api/v1/auth/login",
      headers: { dpop: remember(proof) },
      json: { email, password },
    });
    const { access_token: accessToken, refresh_token: refreshToken, token_type: type } = answer.json();
    assert.equal(type, "DPoP");
    const active = await introspect(remember(accessToken));
    assert.equal(active.token_type, "DPoP");
    assert.equal(active.cnf.jkt, await dpop.calculateThumbprint(pair.publicKey));
    await revoke(remember(refreshToken));
    assert.deepEqual(await introspect(accessToken), { active: false });
  });
});
