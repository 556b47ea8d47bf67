// What the tests of the operators' page and of pushed policies share.
//
//   const gateway = await startGateway(scope, { vars: OPERATED });      with the page, and pushed policies at once
//   await edge.get("/_gateway/policy", { token: OPERATOR });
//   const text = await compile(PUSHED);                                 as `policy:push` writes it
//   await policiesOf(edge).put("current", text);                        also get, remove; "previous"
//   versionOf(text)                                                     as /status shows it
//   const refused = await makeTraffic(gateway, 10);                     a refusal's answer

import assert from "node:assert/strict";
import { createHash } from "node:crypto";

import { openPolicyTool } from "../../scripts/lib/policy-tool.js";
import { remember } from "./run.js";

export const OPERATOR = remember("a-token-for-the-operators-of-tests");
export const SCRAPER = remember("a-token-for-the-scraper-of-tests");

/** Variables of a gateway with metrics, the page, and policies that are read each second. */
export const OPERATED = { METRICS_TOKEN: SCRAPER, OPERATORS_TOKEN: OPERATOR, POLICY_REREAD_S: "1" };

export const ME = "/api/v1/auth/me";
export const USER = "/api/v1/users/1";

/** A policy with one route, which is public. */
export const PUSHED = `
[upstreams.auth]
url = "http://127.0.0.1:1"

[[routes]]
path = "/pushed"
methods = ["GET"]
upstream = "auth"
access = "public"
`;

/**
 * Returns the document of a policy.
 * @param {string} text
 */
export async function compile(text) {
  const run = await openPolicyTool();
  const { out, errors } = run({ command: "compile", policy: { name: "gateway.toml", text } });
  assert.deepEqual(errors, []);
  return out;
}

/** @param {string} text */
export const versionOf = (text) => createHash("sha256").update(text).digest("base64url").slice(0, 12);

/**
 * Returns the pushed policies of a gateway, also after its restart.
 * @param {{ kv: () => Promise<any> }} edge
 */
export const policiesOf = (edge) => ({
  put: async (name, text) => (await edge.kv()).put(`policy/${name}`, text),
  get: async (name) => (await edge.kv()).get(`policy/${name}`),
  remove: async (name) => (await edge.kv()).delete(`policy/${name}`),
});

/**
 * Sends requests that services answer, and three that the gateway refuses. Resolves with the answer to the last one.
 * @param {{ issuer: any, edge: any }} gateway
 * @param {number} count
 */
export async function makeTraffic({ issuer, edge }, count) {
  const token = await issuer.accessToken();
  const admin = await issuer.accessToken({ roles: ["admin"] });
  for (let number = 0; number < count; number += 1) {
    await edge.get(ME, { token });
    await edge.get(USER, { token: admin });
  }
  await edge.get("/api/v1/users", { token });
  await edge.get("/nowhere");
  return edge.get(ME);
}
