// An example of a service behind the gateway: takes identity from the assertion only, and answers with it.

import { jwtVerify } from "jose";

import { listenOnLoopback } from "./loopback-server.js";

/** Name of the upstream in the policy. */
export const EXAMPLE_UPSTREAM = "example";

const LEEWAY_S = 30;

/**
 * Starts the service at the URL of its upstream.
 * @param {{ url: string, keys: string }} options `keys` is the secret ASSERTION_KEYS_EXAMPLE
 */
export function startExampleUpstream({ url, keys }) {
  const secrets = new Map(
    keys.split(",").map((item) => {
      const [kid, secret] = item.trim().split(":");
      return [kid, Buffer.from(secret ?? "", "base64url")];
    }),
  );
  const settings = `url of [upstreams.${EXAMPLE_UPSTREAM}]`;
  return listenOnLoopback({ what: "the example service", url, settings }, async (request) => {
    try {
      const { payload } = await jwtVerify(
        String(request.headers["x-gateway-assertion"] ?? ""),
        ({ kid = "" }) => {
          const secret = secrets.get(kid);
          if (secret === undefined) throw new Error("unknown key");
          return secret;
        },
        {
          algorithms: ["HS256"],
          typ: "gateway+jwt",
          issuer: "portcullis",
          audience: EXAMPLE_UPSTREAM,
          clockTolerance: LEEWAY_S,
        },
      );
      // An assertion is for one method and one path with its query.
      if (payload.htm !== request.method || payload.htu !== request.url) throw new Error("another request");
      const { sub: user = null, roles = [] } = payload;
      return { body: `${JSON.stringify({ method: request.method, path: request.url, user, roles })}\n` };
    } catch {
      return {
        status: 401,
        headers: { "www-authenticate": `Gateway-Assertion realm="${url}", error="gateway_required"` },
        body: '{"error":"gateway_required"}\n',
      };
    }
  });
}
