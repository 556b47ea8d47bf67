// MCP clients (Model Context Protocol) in front of the gateway: the SDK's client finds the authorization server
// (oidc-provider) of a service by RFC 9728, and the conformance tests of MCP judge the client, and the service behind
// the gateway.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { writeFileSync } from "node:fs";
import { createServer, request as send } from "node:http";
import { connect as dial, createServer as listen } from "node:net";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ToolListChangedNotificationSchema } from "@modelcontextprotocol/sdk/types.js";
import { Provider } from "oidc-provider";

import { ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { startEdge } from "../harness/edge.js";
import { CALLBACK, connect, createUser } from "../harness/mcp-client.js";
import { createMcpService } from "../harness/mcp-server.js";
import { temporaryFolder } from "../harness/run.js";
import { fileScope, testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const CONFORMANCE = join(ROOT, "node_modules", "@modelcontextprotocol", "conformance", "dist", "index.js");
const CLIENT = join(ROOT, "tests", "harness", "mcp-client.js");

// Scenarios of the conformance tests for what the service does not have, such as prompts.
const ABSENT = [
  "completion-complete",
  "tools-call-image",
  "tools-call-audio",
  "tools-call-embedded-resource",
  "tools-call-mixed-content",
  "elicitation-sep1034-defaults",
  "elicitation-sep1330-enums",
  "resources-list",
  "resources-read-text",
  "resources-read-binary",
  "resources-templates-read",
  "resources-subscribe",
  "resources-unsubscribe",
  "prompts-list",
  "prompts-get-simple",
  "prompts-get-with-args",
  "prompts-get-embedded-resource",
  "prompts-get-with-image",
  // For local servers without authentication: pages cannot make a browser send a token.
  "dns-rebinding-protection",
];

const policy = (origin, issuer) => `
public_url = "${origin}"

[issuers.provider]
issuer = "${issuer}"
audience = ["${origin}/mcp"]
algorithms = ["RS256"]
types = ["at+jwt"]
discovery = true

[upstreams.users]
url = "http://127.0.0.1:1"

[upstreams.auth]
url = "http://127.0.0.1:2"

[[routes]]
path = "/mcp"
methods = ["GET", "POST", "DELETE"]
upstream = "users"
access = { scopes = ["tools:read"] }

[[routes]]
path = "/mcp/admin"
methods = ["GET", "POST", "DELETE"]
upstream = "users"
access = { all = [{ scopes = ["tools:read"] }, { scopes = ["tools:run"] }] }

[[resources]]
path = "/mcp"
scopes_supported = ["tools:read"]
`;

async function startProvider() {
  const port = await probePort(0);
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    // oidc-provider limits a client that registers itself to the scopes that it names then, so it cannot get more.
    clients: [{ client_id: "known", token_endpoint_auth_method: "none", redirect_uris: [CALLBACK] }],
    jwks: { keys: [{ ...privateKey.export({ format: "jwk" }), kid: "rsa-1", use: "sig", alg: "RS256" }] },
    pkce: { required: () => true },
    scopes: ["tools:read", "tools:run"],
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    features: {
      devInteractions: { enabled: true },
      registration: { enabled: true },
      resourceIndicators: {
        enabled: true,
        useGrantedResource: () => true,
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
  return `http://127.0.0.1:${port}`;
}

// Starts a relay whose port is known before the gateway starts, so that it can be a part of `public_url`.
async function startRelay() {
  const sockets = new Set();
  const relay = { target: undefined, origin: undefined };
  const server = listen((socket) => {
    const other = dial(relay.target);
    for (const [one, its] of [
      [socket, other],
      [other, socket],
    ]) {
      sockets.add(one);
      one.on("error", () => {}).on("close", () => sockets.delete(one) && its.destroy());
      one.pipe(its);
    }
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  scope.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  relay.origin = `http://127.0.0.1:${server.address().port}`;
  return relay;
}

// Starts a proxy that adds a token: the conformance tests of servers have none. Resolves with its origin.
async function startTokenProxy(scope, origin, token) {
  const server = createServer((request, response) => {
    const headers = { ...request.headers, authorization: `Bearer ${token}` };
    const forwarded = send(`${origin}${request.url}`, { method: request.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      response.flushHeaders();
      answer.on("error", () => response.destroy()).pipe(response);
    });
    forwarded.on("error", () => response.destroy());
    response.on("close", () => forwarded.destroy());
    request.pipe(forwarded);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  scope.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

// Runs the conformance tests, which exit with another code than 0 after a failure, and with `expected` failures also if
// one of them passes. Resolves with the number of checks that passed.
function judge(args, { folder, expected = {} }) {
  const baseline = join(folder, "expected.yml");
  writeFileSync(baseline, JSON.stringify(expected));
  return new Promise((resolve, reject) =>
    execFile(
      process.execPath,
      [CONFORMANCE, ...args, "--expected-failures", baseline],
      { cwd: folder, maxBuffer: 64 * 1024 * 1024 },
      (error, stdout, stderr) =>
        error ? reject(new Error(`${stdout}\n${stderr}`)) : resolve(/^Total: (\d+) passed/m.exec(stdout + stderr)?.[1]),
    ),
  );
}

describe("an MCP client", () => {
  const service = createMcpService();
  let relay, users, resource, metadata;

  before(async () => {
    const issuer = await startProvider();
    relay = await startRelay();
    users = await startUpstream(scope, service);
    const text = policy(relay.origin, issuer);
    const edge = await startEdge(scope, { users, auth: users, policy: { text } });
    relay.target = { host: "127.0.0.1", port: Number(new URL(edge.url).port) };
    resource = `${relay.origin}/mcp`;
    metadata = `${relay.origin}/.well-known/oauth-protected-resource/mcp`;
  });

  test("finds its way from the URL of a service to a tool", async () => {
    users.forget();
    const user = createUser("ada");
    const { client, ask } = await connect(resource, user);
    assert.deepEqual(user.authorizations, [{ scope: "tools:read", resource, metadata }]);
    const { content } = await ask(() => client.callTool({ name: "whoami", arguments: {} }));
    assert.deepEqual(content, [{ type: "text", text: "ada" }]);
    // The service sees no request that the policy does not permit, and no token.
    for (const { headers, assertion } of users.requests) {
      assert.ok(assertion);
      assert.equal(headers.authorization, undefined);
    }
    await client.close();
  });

  test("gets notifications of the service by the stream of its session", async () => {
    const { client } = await connect(resource, createUser("ada"));
    let isNotified = false;
    client.setNotificationHandler(ToolListChangedNotificationSchema, () => {
      isNotified = true;
    });
    // The service notifies only clients whose stream is open.
    await until("the client is notified", async () => {
      await service.changed();
      return isNotified;
    });
    await client.close();
  });

  test("asks for a further scope when a service needs it, and keeps the first", async () => {
    const user = createUser("ada");
    user.registration = { client_id: "known" };
    await (await connect(resource, user)).client.close();
    const { client, ask } = await connect(`${resource}/admin`, user);
    assert.deepEqual(user.authorizations, [
      { scope: "tools:read", resource, metadata },
      { scope: "tools:read tools:run", resource, metadata },
    ]);
    const { content } = await ask(() => client.callTool({ name: "whoami", arguments: {} }));
    assert.deepEqual(content, [{ type: "text", text: "ada" }]);
    await client.close();
    // The new token is for both.
    await (await connect(resource, user)).client.close();
    assert.equal(user.authorizations.length, 2);
  });

  test("conforms to MCP, so these tests use a client as others do", async (t) => {
    const folder = temporaryFolder(testScope(t), "mcp");
    const command = `"${process.execPath}" "${CLIENT}"`;
    const passed = await judge(["client", "--suite", "auth", "--command", command], { folder });
    t.diagnostic(`${passed} checks`);
  });

  test("leaves a service behind the gateway as conformant as it is", async (t) => {
    const user = createUser("ada");
    await (await connect(resource, user)).client.close();
    const proxy = await startTokenProxy(testScope(t), relay.origin, user.token.access_token);
    const folder = temporaryFolder(testScope(t), "mcp");
    const passed = await judge(["server", "--url", `${proxy}/mcp`], { folder, expected: { server: ABSENT } });
    t.diagnostic(`${passed} checks`);
  });
});
