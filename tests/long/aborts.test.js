// The memory of workerd over 100,000 requests that their clients abort while the gateway waits for an
// issuer, an upstream or the revocation log.
//
// The gateway's own memory is measured apart from that of the process. V8's heap and the wasm module's memory
// after 100,000 requests must be within 10 % of those after 10,000. The process also grows while workerd meets
// each kind of abort for the first times (a Worker that only passes requests on grew from 119 to 230 MiB), so
// its memory is compared after RUNTIME_WARM_UP requests: 10,000 and 100,000 requests later, within 10 % too.

import assert from "node:assert/strict";
import { test } from "node:test";

import { createIssuer } from "../harness/issuer.js";
import { abort, startLean } from "../harness/lean.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

const FIRST = 10_000;
const ALL = 100_000;

// Aborted requests that the gateway does not see, during which workerd grows most.
const WARM_UP = 60_000;

// Aborted requests to the gateway after which the memory of the runtime itself is steady.
const RUNTIME_WARM_UP = 30_000;

// Sockets at once, and milliseconds from a request to the reset of its connection: the gateway waits by
// then.
const PACE = { atOnce: 20, afterMs: 20 };

const MIB = 1024 * 1024;

// The most growth in proportion.
const GROWTH = 1.1;

const head = (line, ...lines) => `${line} HTTP/1.1\r\nHost: edge\r\n${lines.map((text) => `${text}\r\n`).join("")}\r\n`;

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
  const show = async (what) => {
    auth.forget();
    users.forget();
    const memory = await edge.memory();
    t.diagnostic(`${what}: RSS ${said(memory.rss)}, V8's heap ${said(memory.heap)}, wasm ${said(memory.wasm)}`);
    return memory;
  };
  const settle = async (what) => {
    // Longer than every timeout, and than the grace period of abandoned requests.
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    return show(what);
  };
  const said = (bytes) => `${(bytes / MIB).toFixed(2)} MiB`;

  const samples = new Map();
  await show("at the start");
  await abort(edge.url, [head("GET /test/nothing")], { count: WARM_UP, ...PACE });
  await settle(`after ${WARM_UP} aborted requests that the gateway does not see`);
  const compared = [FIRST, ALL, RUNTIME_WARM_UP + FIRST, RUNTIME_WARM_UP + ALL];
  for (let count = FIRST; count <= RUNTIME_WARM_UP + ALL; count += FIRST) {
    await abort(edge.url, kinds, { count: FIRST, ...PACE });
    if (compared.includes(count)) samples.set(count, await settle(`after ${count} aborted requests`));
    else await show(`after ${count}, of which some still wait`);
  }
  const own = ({ heap, wasm }) => heap + wasm;
  const steady = (what, measure, from, to) => {
    const [before, after] = [from, to].map((count) => measure(samples.get(count)));
    assert.ok(after < before * GROWTH, `${what} grew from ${said(before)} to ${said(after)}`);
  };
  steady("the gateway's memory", own, FIRST, ALL);
  steady("the process", ({ rss }) => rss, RUNTIME_WARM_UP + FIRST, RUNTIME_WARM_UP + ALL);
  auth.answer("GET /.well-known/jwks.json", { json: issuer.jwks() });
  await edge.log("pass");
  users.answer(`GET ${path}`, { json: {} });
  await until("honest requests are served", async () => (await edge.get(path, { token: good })).status === 200);
});
