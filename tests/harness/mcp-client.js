// An MCP client with OAuth, as the SDK documents it. What it decides (which metadata it reads, which scopes it asks
// for) is the SDK's; a browser logs in and allows everything.
//
//   const user = createUser("ada");
//   const { client, ask } = await connect(url, user);
//   await ask(() => client.callTool({ name, arguments }));       asks for an authorization if one is needed
//   user.authorizations                     [{ scope, resource, metadata }] of the visits to the authorization server,
//                                           with the URL of the metadata that the refusal named
//   user.registration = { client_id }       of a client that the authorization server knows
//
// The MCP conformance tests run it as a program, which calls the first tool of a server. A variable has the client's
// registration if the authorization server knows it already:
//
//   MCP_CONFORMANCE_CONTEXT={…} node tests/harness/mcp-client.js URL

import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { UnauthorizedError } from "@modelcontextprotocol/sdk/client/auth.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

import { authorize, browser } from "./browser.js";
import { remember } from "./run.js";

export const CALLBACK = "http://127.0.0.1:9/callback";

// A user's program with its registration and its tokens at one authorization server (the SDK's OAuthClientProvider).
export function createUser(login) {
  let visit;
  let verifier;
  let metadata;
  const user = {
    authorizations: [],
    code: undefined,
    registration: undefined,
    token: undefined,
    redirectUrl: CALLBACK,
    // The name of the client where the authorization server reads metadata of clients.
    clientMetadataUrl: "https://conformance-test.local/client-metadata.json",
    clientMetadata: { client_name: "client", redirect_uris: [CALLBACK], token_endpoint_auth_method: "none" },
    clientInformation: () => user.registration,
    saveClientInformation(registration) {
      user.registration = registration;
    },
    tokens: () => user.token,
    saveTokens(token) {
      remember(token.access_token);
      user.token = token;
    },
    saveDiscoveryState({ resourceMetadataUrl }) {
      metadata = resourceMetadataUrl;
    },
    codeVerifier: () => verifier,
    saveCodeVerifier(text) {
      verifier = text;
    },
    async redirectToAuthorization(url) {
      const { scope, resource } = Object.fromEntries(url.searchParams);
      user.authorizations.push({ scope, resource, metadata });
      visit ??= browser(url.origin);
      const location = await authorize(visit, url, { callback: CALLBACK, login });
      user.code = location.searchParams.get("code");
      if (user.code === null) throw new Error(`the authorization server refuses: ${location.search}`);
    },
  };
  return user;
}

// Runs `action`, and again after each authorization that the SDK asks for.
async function withConsent(finish, user, action) {
  for (;;) {
    try {
      return await action();
    } catch (error) {
      if (!(error instanceof UnauthorizedError) || user.code === undefined) throw error;
      const { code } = user;
      user.code = undefined;
      await finish(code);
    }
  }
}

export async function connect(url, user) {
  const client = new Client({ name: "client", version: "1.0.0" });
  let transport;
  const ask = (action) => withConsent((code) => transport.finishAuth(code), user, action);
  await ask(() => {
    transport = new StreamableHTTPClientTransport(new URL(url), { authProvider: user });
    return client.connect(transport);
  });
  return { client, ask };
}

if (process.argv[1] === import.meta.filename) {
  const user = createUser("ada");
  const { client_id, client_secret } = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? "{}");
  if (client_id !== undefined) user.registration = { client_id, client_secret };
  const { client, ask } = await connect(process.argv[2], user);
  const { tools } = await ask(() => client.listTools());
  await ask(() => client.callTool({ name: tools[0].name, arguments: {} }));
  await client.close();
}
