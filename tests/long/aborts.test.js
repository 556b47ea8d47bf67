// The memory of the runtime over 100,000 requests that their clients abort while the gateway
// waits for an issuer, an upstream or the revocation log.
//
// workerd itself grows over its first tens of thousands of aborted connections, whatever its Worker
// does (from 75 to some 310 MiB where the Worker answers at once), and then stays. So aborted
// requests that are not counted come first: those that no gateway sees, and those that one does.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createIssuer } from "../harness/issuer.js";
import { abort, startLean } from "../harness/lean.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const FIRST = 10_000;
const ALL = Number(process.env.ABORTS ?? 100_000);

// Aborted requests during which the runtime itself grows.
const WARM_UP = 60_000;

const MIB = 1024 * 1024;

test("100,000 aborted requests leave as much memory in use as 10,000", { timeout: 3_600_000 }, async (t) => {
  const auth = await startUpstream(scope);
  const users = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const edge = await startLean(scope, { auth, users });
  const claims = issuer.claims();
  const path = `/api/v1/users/${claims.sub}`;
  const good = await issuer.sign(claims);
  await until("a token is taken", async () => (await edge.get(path, { token: good })).status === 200);
  // From here on everything that the gateway waits for hangs.
  const hang = () => {};
  auth.answer("GET /.well-known/jwks.json", hang);
  auth.answer("POST /api/v1/auth/login", hang);
  users.answer(`GET ${path}`, hang);
  await edge.log("hang");

  const strange = await Promise.all(
    Array.from({ length: 200 }, (_, index) => issuer.accessToken({}, { kid: `unknown-${index}` })),
  );
  const head = (line, ...lines) =>
    `${line} HTTP/1.1\r\nHost: edge\r\n${lines.map((text) => `${text}\r\n`).join("")}\r\n`;
  let turn = 0;
  const kinds = [
    () => head(`GET ${path}`, `Authorization: Bearer ${good}`),
    () => {
      turn += 1;
      return head(`GET ${path}`, `Authorization: Bearer ${strange[turn % strange.length]}`);
    },
    () => `${head("POST /api/v1/auth/login", "Content-Type: application/json", "Content-Length: 100")}{"email":`,
    () => head("GET /ready"),
  ];
  const settle = async () => {
    auth.forget();
    users.forget();
    // Longer than every timeout, and than the grace period of abandoned requests.
    await new Promise((resolve) => setTimeout(resolve, 15_000));
    const bytes = await edge.heldBytes();
    t.diagnostic(`${Math.round(bytes / MIB)} MiB`);
    return bytes;
  };

  t.diagnostic(`${Math.round((await edge.heldBytes()) / MIB)} MiB at the start`);
  for (const [what, requests] of [
    ["that no gateway saw", [head("GET /test/nothing")]],
    ["that are not counted", kinds],
  ]) {
    await abort(edge.url, requests, { count: WARM_UP });
    t.diagnostic(`after ${WARM_UP} aborted requests ${what}:`);
    await settle();
  }
  await abort(edge.url, kinds, { count: FIRST });
  t.diagnostic(`after ${FIRST} aborted requests:`);
  const first = await settle();
  for (let count = FIRST; count < ALL; count += FIRST) {
    await abort(edge.url, kinds, { count: FIRST });
    t.diagnostic(`after ${count + FIRST}:`);
    auth.forget();
    users.forget();
    if (count + FIRST < ALL) t.diagnostic(`${Math.round((await edge.heldBytes()) / MIB)} MiB, some still waiting`);
  }
  const last = await settle();
  assert.ok(last < first * 1.1, `${Math.round(first / MIB)} MiB became ${Math.round(last / MIB)} MiB`);
  auth.answer("GET /.well-known/jwks.json", { json: issuer.jwks() });
  await edge.log("pass");
  users.answer(`GET ${path}`, { json: {} });
  await until("honest requests are served", async () => (await edge.get(path, { token: good })).status === 200);
});
