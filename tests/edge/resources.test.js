// Protected resource metadata (RFC 9728) as others read it: a client (oauth4webapi) that knows only the URL of a
// resource finds its authorization server (oidc-provider) and scopes, and gets in.

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { before, describe, test } from "node:test";

import * as oauth from "oauth4webapi";
import { Provider } from "oidc-provider";

import { probePort } from "../../cli/lib/ports.js";
import { startEdge } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

const GATEWAY = "https://api.example.com";
const RESOURCE = new URL(`${GATEWAY}/mcp`);
const PLACE = "/.well-known/oauth-protected-resource";

const policy = (issuer) => `
public_url = "${GATEWAY}"

[issuers.provider]
issuer = "${issuer}"
audience = ["${RESOURCE.href}"]
algorithms = ["RS256"]
types = ["at+jwt"]
discovery = true

[cors.app]
origins = ["https://app.example"]

[upstreams.users]
url = "http://127.0.0.1:1"

[upstreams.auth]
url = "http://127.0.0.1:2"

[[routes]]
path = "/mcp"
methods = ["GET"]
upstream = "users"
access = { scopes = ["tools:read"] }
cors = "app"

[[routes]]
path = "/mcp/run"
methods = ["GET"]
upstream = "users"
access = { all = [{ scopes = ["tools:read"] }, { scopes = ["tools:run"] }] }

[[routes]]
path = "/{*rest}"
methods = ["GET", "POST"]
upstream = "auth"
access = "user"

[[resources]]
path = "/mcp"
resource_name = "Tools"
`;

describe("protected resource metadata", () => {
  let users, edge, issuer;

  before(async () => {
    const port = await probePort(0);
    issuer = `http://127.0.0.1:${port}`;
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
    const provider = new Provider(issuer, {
      clients: [
        {
          client_id: "agent",
          client_secret: remember("a secret of the agent"),
          grant_types: ["client_credentials"],
          redirect_uris: [],
          response_types: [],
        },
      ],
      jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "rsa-1", use: "sig" }] },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        resourceIndicators: {
          enabled: true,
          getResourceServerInfo: (_context, resource) => ({
            scope: "tools:read tools:run",
            audience: resource,
            accessTokenFormat: "jwt",
            jwt: { sign: { alg: "RS256" } },
          }),
        },
      },
    });
    const server = provider.listen(port, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    scope.after(() => new Promise((resolve) => server.close(resolve)));
    users = await startUpstream(scope);
    edge = await startEdge(scope, { users, auth: users, policy: { text: policy(issuer) } });
  });

  // The network of a client: DNS leads api.example.com to the gateway.
  const network = {
    [oauth.allowInsecureRequests]: true,
    [oauth.customFetch]: async (url, { method, headers, body } = {}) => {
      if (!url.startsWith(`${GATEWAY}/`)) return fetch(url, { method, headers, body });
      const sent = [...new Headers(headers), ["host", "api.example.com"]];
      const answer = await edge.send({ method, path: url.slice(GATEWAY.length), headers: sent });
      return new Response(answer.body, { status: answer.status, headers: answer.headers });
    },
  };

  const challengeOf = async (path, token) => {
    const refused = oauth.protectedResourceRequest(token, "GET", new URL(GATEWAY + path), undefined, null, network);
    const error = await refused.then(
      (response) => assert.fail(`${path} is ${response.status}`),
      (error) => error,
    );
    assert.ok(error instanceof oauth.WWWAuthenticateChallengeError, error);
    assert.equal(error.cause.length, 1);
    assert.equal(error.cause[0].scheme, "bearer");
    return { status: error.status, ...error.cause[0].parameters };
  };

  async function tokenFor(server, wanted) {
    const [client, secret] = [{ client_id: "agent" }, oauth.ClientSecretBasic("a secret of the agent")];
    const parameters = new URLSearchParams({ scope: wanted, resource: RESOURCE.href });
    const response = await oauth.clientCredentialsGrantRequest(server, client, secret, parameters, network);
    return remember((await oauth.processClientCredentialsResponse(server, client, response)).access_token);
  }

  test("leads a client from the first refusal to a success, and to more scopes", async () => {
    const first = await challengeOf("/mcp", "unknown");
    assert.equal(first.status, 401);
    assert.equal(first.scope, "tools:read");
    assert.equal(first.resource_metadata, `${GATEWAY}${PLACE}/mcp`);

    const asked = await oauth.resourceDiscoveryRequest(RESOURCE, network);
    const metadata = await oauth.processResourceDiscoveryResponse(RESOURCE, asked);
    assert.deepEqual(metadata, {
      resource: RESOURCE.href,
      authorization_servers: [issuer],
      bearer_methods_supported: ["header"],
      resource_name: "Tools",
      scopes_supported: ["tools:read", "tools:run"],
    });
    const [name] = metadata.authorization_servers;
    const discovered = await oauth.discoveryRequest(new URL(name), network);
    const server = await oauth.processDiscoveryResponse(new URL(name), discovered);

    const token = await tokenFor(server, first.scope);
    const call = (path, token) =>
      oauth.protectedResourceRequest(token, "GET", new URL(GATEWAY + path), undefined, null, network);
    assert.equal((await call("/mcp", token)).status, 200);
    assert.equal(users.requests.at(-1).headers["x-user-id"], "agent");

    const second = await challengeOf("/mcp/run", token);
    assert.equal(second.status, 403);
    assert.equal(second.error, "insufficient_scope");
    assert.equal(second.scope, "tools:read tools:run");
    assert.equal(second.resource_metadata, first.resource_metadata);
    assert.equal((await call("/mcp/run", await tokenFor(server, second.scope))).status, 200);
  });

  test("is no metadata of another resource to a client", async () => {
    for (const identifier of [`${GATEWAY}/`, `${GATEWAY}/mcp/run`, `${GATEWAY}/other`]) {
      const asked = await oauth.resourceDiscoveryRequest(new URL(identifier), network);
      assert.equal(asked.status, 404, identifier);
    }
    // A client of another host of this gateway refuses what it gets.
    const alias = new URL("https://alias.example/mcp");
    const answer = await edge.send({ path: `${PLACE}/mcp`, headers: { host: "alias.example" } });
    const response = new Response(answer.body, { headers: answer.headers });
    await assert.rejects(oauth.processResourceDiscoveryResponse(alias, response), /does not match the expected value/);
  });

  test("is the same whatever the request says, and no service sees it", async () => {
    users.forget();
    const expected = (await edge.get(`${PLACE}/mcp`)).body;
    for (const [path, headers] of [
      [`${PLACE}/mcp`, { host: "evil.example" }],
      [`${PLACE}/mcp`, { "x-forwarded-host": "evil.example", forwarded: "host=evil.example" }],
      [`${PLACE}/mcp?resource=https://evil.example`, {}],
      [`/%2ewell-known/oauth%2Dprotected-resource/%6dcp`, {}],
    ]) {
      const answer = await edge.send({ path, headers });
      assert.equal(answer.status, 200, path);
      assert.equal(answer.body, expected);
      assert.ok(!JSON.stringify(answer.headers).includes("evil"));
      assert.equal(answer.headers["cache-control"], "public, max-age=300");
      assert.equal(answer.headers.vary, undefined);
    }
    for (const [method, path, status] of [
      ["GET", PLACE, 404],
      ["GET", `${PLACE}/`, 404],
      ["GET", `${PLACE}/mcp/`, 404],
      ["GET", `${PLACE}/mcp/run`, 404],
      // Workerd resolves plain dots before the gateway sees the path.
      ["GET", `${PLACE}/mcp/..%2Fmcp`, 400],
      ["GET", `${PLACE}/mcp%2Frun`, 400],
      ["GET", `${PLACE}/${"a".repeat(4096)}`, 414],
      ["POST", `${PLACE}/mcp`, 405],
    ]) {
      assert.equal((await edge.send({ method, path })).status, status, `${method} ${path}`);
    }
    assert.equal(users.requests.length, 0);
  });

  test("can be read by HEAD and by pages of every origin", async () => {
    const head = await edge.send({ method: "HEAD", path: `${PLACE}/mcp` });
    assert.equal(head.status, 200);
    assert.equal(head.body, "");
    assert.equal(head.headers["content-type"], "application/json");
    const origin = "https://any.example";
    const preflight = await edge.send({
      method: "OPTIONS",
      path: `${PLACE}/mcp`,
      headers: {
        origin,
        "access-control-request-method": "GET",
        "access-control-request-headers": "mcp-protocol-version",
      },
    });
    assert.equal(preflight.status, 204);
    assert.equal(preflight.headers["access-control-allow-origin"], "*");
    assert.equal(preflight.headers["access-control-allow-headers"], "*");
    const answer = await edge.get(`${PLACE}/mcp`, { headers: { origin } });
    assert.equal(answer.headers["access-control-allow-origin"], "*");
    assert.equal(answer.headers["access-control-allow-credentials"], undefined);
    // A listed page reads the challenge of its own route, too.
    const refused = await edge.get("/mcp", { headers: { origin: "https://app.example" } });
    assert.equal(refused.status, 401);
    assert.match(refused.headers["access-control-expose-headers"], /(^|, )www-authenticate(,|$)/);
  });
});
