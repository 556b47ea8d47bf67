// `portcullis serve` is killed 20 times under load: its owner process, an edge process, or the whole command. Each revocation
// that was answered with 200 still holds afterwards, and no other token is refused for one.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";

import { makeAssertionKey } from "../harness/assertion.js";
import { startServed } from "../harness/edge-served.js";
import { buildFor } from "../harness/edge.js";
import { send } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const KILLS = 20;
const PROCESSES = 2;
const ME = "/api/v1/auth/me";
const PUSH = "/_gateway/revocations";

// Pushes before each kill, so that it meets several in progress.
const PUSHES = 25;

// Milliseconds until every process refuses a revoked token; crates/token/src/revocation/limits.rs.
const STALE_MS = 4_000;

// Loops that push, and loops that send requests with a token.
const PUSHERS = 4;
const CALLERS = 8;

const PAUSE_MS = 20;

test("20 kills under load lose no revocation that was acknowledged", { timeout: 900_000 }, async (t) => {
  const scope = testScope(t);
  const auth = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const served = await startServed(scope, {
    folder: await buildFor(),
    persist: temporaryFolder(scope, "state"),
    bindings: {
      DEVELOPMENT: "true",
      UPSTREAM_AUTH_URL: auth.url,
      UPSTREAM_USERS_URL: auth.url,
      ASSERTION_KEYS_AUTH: makeAssertionKey(),
      ASSERTION_KEYS_USERS: makeAssertionKey(),
    },
    limits: {},
    processes: PROCESSES,
    onLine: () => {},
  });
  scope.after(() => served.dispose());

  const claims = { sub: "auth-service", aud: "portcullis", token_type: "service", roles: ["service"], sid: undefined };
  const service = await issuer.sign(issuer.claims(claims), { typ: "service+jwt" });
  const bearer = (token) => ({ authorization: `Bearer ${token}` });
  const bystander = await issuer.accessToken({ sid: randomUUID() });
  const statusOf = async (token) => (await send(served.url, { path: ME, headers: bearer(token) })).status;

  let isOver = false;
  const acknowledged = [];
  let unanswered = 0;
  const answers = {};
  const pushes = {};
  // Requests that a kill meets have no answer, or a 503; never a wrong one.
  const count = (status) => {
    answers[status] = (answers[status] ?? 0) + 1;
  };
  // While nothing listens.
  const pause = () => new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  const pusher = async () => {
    while (!isOver) {
      const sid = randomUUID();
      const revocations = [{ session: sid, expires_at: Math.floor(Date.now() / 1000) + 900 }];
      try {
        const { status } = await send(served.url, {
          method: "POST",
          path: PUSH,
          headers: bearer(service),
          json: { revocations },
        });
        if (status === 200) acknowledged.push(sid);
        else pushes[status] = (pushes[status] ?? 0) + 1;
      } catch {
        unanswered += 1;
        await pause();
      }
    }
  };
  const caller = async () => {
    while (!isOver) {
      await statusOf(bystander).then(count, () => {
        count("none");
        return pause();
      });
    }
  };
  const loops = [...Array.from({ length: PUSHERS }, pusher), ...Array.from({ length: CALLERS }, caller)];

  try {
    for (let kill = 0; kill < KILLS; kill += 1) {
      const before = acknowledged.length;
      await until("revocations are acknowledged", () => acknowledged.length >= before + PUSHES);
      const { owner, edges } = served.processes();
      assert.ok(owner !== undefined && edges.length === PROCESSES);
      if (kill % 3 === 0) process.kill(owner, "SIGKILL");
      else if (kill % 3 === 1) process.kill(edges[0], "SIGKILL");
      else await served.killAll();
      await until("all processes run again", () => {
        const now = served.processes();
        return now.owner !== undefined && now.edges.length === PROCESSES;
      });
    }
  } finally {
    isOver = true;
    await Promise.all(loops);
  }

  assert.equal(await statusOf(bystander), 200);
  for (const sid of acknowledged) {
    const token = await issuer.accessToken({ sid });
    await until(`session ${sid} is refused`, async () => (await statusOf(token)) === 401, 2 * STALE_MS);
  }
  assert.deepEqual(
    Object.keys(answers).filter((status) => !["200", "502", "503", "504", "none"].includes(status)),
    [],
  );
  t.diagnostic(`${acknowledged.length} acknowledged, ${unanswered} unanswered; answers ${JSON.stringify(answers)}`);
});
