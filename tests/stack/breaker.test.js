// The user service is stopped with SIGSTOP (it accepts and never answers) and resumes: only its own callers
// are affected, and they do not wait.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// Milliseconds; gateway.toml gives the user service 15 s. An open circuit waits
// for a second at first and twice as long after each failed probe.
const LIMIT_MS = 16_000;
const FOUND_MS = 10_000;

describe("a service that hangs", () => {
  let stack, session;

  before(async () => {
    stack = await startStack(scope);
    const { account } = await stack.register();
    session = await stack.login(account);
  });

  const timed = async (path) => {
    const began = performance.now();
    const answer = await stack.send({ path, headers: session.bearer });
    return { answer, took: performance.now() - began };
  };
  const profile = () => timed(`/api/v1/users/${session.user.id}`);

  test("costs its callers its timeout, then nothing, and gets requests again when it resumes", async (t) => {
    const { pid } = stack.users;
    t.after(() => process.kill(pid, "SIGCONT"));
    assert.equal((await profile()).answer.status, 200);
    process.kill(pid, "SIGSTOP");
    for (const { answer, took } of await Promise.all(Array.from({ length: 5 }, profile))) {
      assert.equal(answer.status, 504, answer.body);
      assert.ok(took < LIMIT_MS, `${took} ms`);
    }
    const took = [];
    let probes = 0;
    for (let count = 0; count < 50; count += 1) {
      const refused = await profile();
      if (refused.answer.status === 504) {
        // The probe after a wait, which finds that the service still hangs.
        probes += 1;
        continue;
      }
      assert.equal(refused.answer.status, 503, refused.answer.body);
      assert.equal(refused.answer.json().code, "upstream_resting");
      assert.match(refused.answer.headers["retry-after"], /^[1-9]\d*$/);
      took.push(refused.took);
    }
    assert.ok(probes <= 2, `${probes} requests waited`);
    took.sort((a, b) => a - b);
    t.diagnostic(`refused in ${took[took.length >> 1].toFixed(2)} ms (median, seen by the client)`);
    assert.equal((await timed("/api/v1/auth/me")).answer.status, 200, "the other service is untouched");

    process.kill(pid, "SIGCONT");
    const back = Date.now();
    await until("it is asked again", async () => (await profile()).answer.status === 200, FOUND_MS);
    t.diagnostic(`found again ${Math.round((Date.now() - back) / 1000)} s after it went on`);
    for (let count = 0; count < 5; count += 1) assert.equal((await profile()).answer.status, 200);
  });
});
