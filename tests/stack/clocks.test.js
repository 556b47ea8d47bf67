// The real gateway and the real services with clocks that differ: within the tolerance of 30 s no
// request is refused and no session is lost; beyond it calls fail, and the session stays.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { promisify } from "node:util";

import { runCargo } from "../../scripts/lib/cargo.js";
import { TARGET } from "../../scripts/lib/paths.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

// The example of the client library that keeps a session in a file.
const CLIENT = join(TARGET, "debug", "examples", "keep_session");
const SESSION_FILE = "portcullis-example-session.json";

// Milliseconds by which a measured difference may deviate: the time of a request.
const MEASURED_MS = 2_000;

const LATE_MS = 60_000;

before(async () => {
  if (process.env.TEST_BUILT) return;
  const args = ["build", "--package", "portcullis-client", "--example", "keep_session", "--target-dir", TARGET];
  await runCargo(args, { failure: "The client's example does not compile" });
});

// A program of the client library. Each run resumes the session in the file; the first one logs in.
function createProgram(stack, { email, password }) {
  const folder = temporaryFolder(scope, "client");
  const file = join(folder, SESSION_FILE);
  const program = {
    run: () =>
      promisify(execFile)(CLIENT, [email, stack.edge.url], {
        env: { ...process.env, TMPDIR: folder, PASSWORD: password },
      }),
    session() {
      const kept = JSON.parse(readFileSync(file, "utf8"));
      for (const name of ["access_token", "refresh_token"]) remember(kept[name]);
      return kept;
    },
    // Makes the access token one that the program regards as expired.
    age() {
      const kept = program.session();
      for (const name of ["expires_at", "renew_at", "issued_at"]) kept[name] -= 3_600_000;
      writeFileSync(file, JSON.stringify(kept), { mode: 0o600 });
    },
  };
  return program;
}

// Log lines of the gateway's requests.
function requestLines(stack) {
  const lines = stack
    .output("edge")
    .split("\n")
    .filter((line) => line.startsWith('{"'));
  return lines
    .map((line) => JSON.parse(line))
    .filter(({ status, event_type }) => status !== undefined && event_type === undefined);
}

async function measureAhead(stack) {
  const id = (await stack.send({ path: "/api/v1/users/none" })).headers["x-request-id"];
  const line = await until("the request's log line", () =>
    requestLines(stack).find(({ request_id }) => request_id === id),
  );
  return Date.parse(line.timestamp) - Date.now();
}

for (const seconds of [-30, 30]) {
  describe(`a gateway whose clock is ${Math.abs(seconds)} s ${seconds < 0 ? "behind" : "ahead of"} the services'`, () => {
    let stack, account;

    const call = (method, path, { bearer }, json) => stack.send({ method, path, headers: bearer, json });
    const assertStatus = (answer, status) => assert.equal(answer.status, status, answer.body);
    async function assertAccepted(session) {
      for (const path of [
        "/api/v1/auth/me",
        `/api/v1/users/${session.user.id}`,
        "/api/v1/auth/sessions",
        "/api/v1/auth/validate-token",
      ]) {
        assertStatus(await call("GET", path, session), 200);
      }
    }
    const isRevoked = async (session) => {
      const answer = await call("GET", `/api/v1/users/${session.user.id}`, session);
      return answer.status === 401 && answer.json().code === "token_revoked";
    };
    const login = async () => {
      const session = await stack.login(account);
      assertStatus(session.answer, 200);
      return session;
    };
    async function refresh(session) {
      const json = { refresh_token: session.refreshToken };
      const answer = await stack.send({ method: "POST", path: "/api/v1/auth/refresh", json });
      assertStatus(answer, 200);
      const { access_token: accessToken, refresh_token: refreshToken } = answer.json();
      for (const token of [accessToken, refreshToken]) remember(token);
      return { ...session, accessToken, refreshToken, bearer: { authorization: `Bearer ${accessToken}` } };
    }

    before(async () => {
      stack = await startStack(scope, { edgeAheadMs: seconds * 1000 });
      const registered = await stack.register();
      assertStatus(registered.answer, 201);
      ({ account } = registered);
    });

    test("has the clock that it is meant to have", async () => {
      const ahead = await measureAhead(stack);
      assert.ok(Math.abs(ahead - seconds * 1000) < MEASURED_MS, `${ahead} ms`);
    });

    test("accepts each session's tokens from login through refreshes to logout", async () => {
      let session = await login();
      for (let round = 0; round < 5; round += 1) {
        // At once and within the second of the login: the token's `iat` is as new as it gets.
        await assertAccepted(session);
        session = await refresh(session);
      }
      await assertAccepted(session);
      assertStatus(await call("POST", "/api/v1/auth/logout", session), 200);
      assert.ok(await isRevoked(session));
    });

    test("ends exactly the sessions that were ended", async () => {
      const [ended, kept] = [await login(), await login()];
      assertStatus(
        await call(
          "DELETE",
          `/api/v1/auth/sessions/${JSON.parse(Buffer.from(ended.accessToken.split(".")[1], "base64url")).sid}`,
          kept,
        ),
        204,
      );
      await until("the ended session is refused", () => isRevoked(ended));
      await assertAccepted(kept);
      await assertAccepted(await refresh(kept));
    });

    test("accepts the tokens of a login right after all sessions were ended", async () => {
      const ended = [await login(), await login()];
      const path = `/api/v1/internal/accounts/${ended[0].user.id}/revoke`;
      assertStatus(await stack.internal("POST", path), 204);
      const session = await login();
      await assertAccepted(session);
      for (const one of ended) await until("the session is refused", () => isRevoked(one));
      await assertAccepted(session);
      await assertAccepted(await refresh(session));
    });

    test("costs a program of the client library neither a call nor its session", async () => {
      const program = createProgram(stack, account);
      await program.run();
      let kept = program.session();
      for (let round = 0; round < 3; round += 1) {
        await program.run();
        assert.equal(program.session().refresh_token, kept.refresh_token, "the session goes on");
        program.age();
        await program.run();
        assert.notEqual(program.session().access_token, kept.access_token, "the token was renewed");
        kept = program.session();
      }
    });

    test("has refused nothing but revoked tokens and the request without a token", async () => {
      const last = await login();
      await assertAccepted(last);
      const refused = requestLines(stack).filter(({ status }) => status >= 400);
      // `/ready` is asked until the gateway has the keys.
      const codes = refused.filter(({ path }) => path !== "/ready").map(({ status, code }) => `${status} ${code}`);
      assert.deepEqual([...new Set(codes)].sort(), ["401 credentials_missing", "401 token_revoked"]);
    });
  });
}

describe("a gateway whose clock is further ahead than the tolerance", () => {
  test("fails each call of a program, whose session goes on once the clocks agree", async () => {
    const stack = await startStack(scope, { edgeAheadMs: 0 });
    const { account } = await stack.register();
    const program = createProgram(stack, account);
    await program.run();
    const { refresh_token: kept } = program.session();
    await stack.shiftEdgeClock(LATE_MS);
    for (let round = 0; round < 3; round += 1) {
      program.age();
      await assert.rejects(program.run(), /upstream_rejected_assertion|502/);
      assert.equal(program.session().refresh_token, kept);
    }
    await stack.shiftEdgeClock(0);
    await program.run();
    assert.notEqual(program.session().refresh_token, kept, "the session was renewed");
  });
});
