// The memory of workerd over 100,000 requests that their clients abort while the gateway waits for an
// issuer, an upstream or the revocation log.
//
// The gateway's own memory is measured apart from that of the process. V8's heap after 100,000 requests must
// be within 10 % of that after 10,000. The wasm module's memory never shrinks: its size is that of the most
// requests that waited at once, of which there may be 4,096. The memory of the whole process also grows with
// a Worker that only passes requests on (202 to 404 MiB between the 10,000th and the 100,000th request in one
// run, 119 to 230 MiB in another), and grew from 468 to 607 MiB with the gateway. It must be steady over the
// second half.

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

// Aborted requests that the gateway does not see, during which workerd grows most.
const WARM_UP = 60_000;

// Sockets at once, and milliseconds from a request to the reset of its connection: the gateway waits by
// then.
const PACE = { atOnce: 20, afterMs: 20 };

const MIB = 1024 * 1024;

// Bytes of the wasm module's memory: ten KB for each request that may wait.
const WASM_BYTES = 40 * MIB;

// The most growth in proportion: of V8's heap from FIRST on, of the process over the second half.
const HEAP_GROWTH = 1.1;
const PROCESS_GROWTH = 1.25;

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

  await show("at the start");
  await abort(edge.url, [head("GET /test/nothing")], { count: WARM_UP, ...PACE });
  await settle(`after ${WARM_UP} aborted requests that the gateway does not see`);
  await abort(edge.url, kinds, { count: FIRST, ...PACE });
  const first = await settle(`after ${FIRST} aborted requests`);
  let half = first;
  for (let count = 2 * FIRST; count < ALL; count += FIRST) {
    await abort(edge.url, kinds, { count: FIRST, ...PACE });
    const memory = await show(`after ${count}, of which some still wait`);
    if (count <= ALL / 2) half = memory;
  }
  await abort(edge.url, kinds, { count: FIRST, ...PACE });
  const last = await settle(`after ${ALL}`);
  assert.ok(last.heap < first.heap * HEAP_GROWTH, `V8's heap of ${said(first.heap)} became ${said(last.heap)}`);
  assert.ok(last.wasm < WASM_BYTES, `the wasm module has ${said(last.wasm)}`);
  assert.ok(last.rss < half.rss * PROCESS_GROWTH, `the process of ${said(half.rss)} became ${said(last.rss)}`);
  auth.answer("GET /.well-known/jwks.json", { json: issuer.jwks() });
  await edge.log("pass");
  users.answer(`GET ${path}`, { json: {} });
  await until("honest requests are served", async () => (await edge.get(path, { token: good })).status === 200);
});
