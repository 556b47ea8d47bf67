// Signing keys rotate while clients work: no valid token is refused.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { before, describe, test } from "node:test";

import { ORIGIN } from "../../scripts/lib/paths.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";

const scope = fileScope();

// The shortest lead that the auth service accepts. Two rotations take twice as long.
const LEAD_S = 40;
const ROTATIONS = 2;
const CLIENTS = 6;

// Requests of a client with one token: six clients of one address then renew theirs 60
// times a minute, within the limit of 100 (LIMIT_LOGIN), however fast the machine is.
const READS = 100;

describe("signing keys rotate under load", () => {
  let stack, admin;

  before(async () => {
    stack = await startStack(scope, { env: { KEY_LEAD_S: String(LEAD_S) } });
    admin = await stack.loginAsAdmin();
  });

  const kidOf = (token) => JSON.parse(Buffer.from(token.split(".")[0], "base64url")).kid;

  test("no request of a client is refused", async (t) => {
    const { account } = await stack.register();
    const kids = new Set();
    const refused = [];
    let requests = 0;
    let isOver = false;

    const note = (what, { status, body }) => {
      requests += 1;
      if (status !== 200) refused.push(`${what}: ${status} ${body}`);
      return status === 200;
    };
    // One client: reads, and regularly gets a new token, whichever key signs it.
    const work = async () => {
      let { accessToken, refreshToken, user } = await stack.login(account);
      while (!isOver) {
        kids.add(kidOf(accessToken));
        for (let count = 0; count < READS && !isOver; count += 1) {
          const headers = { authorization: `Bearer ${accessToken}` };
          note("profile", await stack.send({ path: `/api/v1/users/${user.id}`, headers }));
          // Clients pause between two requests; a tight loop would measure the machine.
          await new Promise((resolve) => setTimeout(resolve, 60));
        }
        const json = { refresh_token: refreshToken };
        const answer = await stack.send({ method: "POST", path: "/api/v1/auth/refresh", json });
        if (!note("refresh", answer)) return;
        ({ access_token: accessToken, refresh_token: refreshToken } = answer.json());
        remember(accessToken);
        remember(refreshToken);
      }
    };
    const clients = Array.from({ length: CLIENTS }, work);

    for (let round = 1; round <= ROTATIONS; round += 1) {
      const answer = await stack.send({
        method: "POST",
        path: "/api/v1/auth/keys/rotate",
        headers: admin.bearer,
      });
      assert.equal(answer.status, 200, answer.body);
      const { kid, previous_kid: previous } = answer.json();
      assert.notEqual(kid, previous);
      const end = Date.now() + 2 * LEAD_S * 1000;
      while (!kids.has(kid)) {
        assert.ok(Date.now() < end && refused.length === 0, `round ${round}: ${refused.join("; ")}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
    isOver = true;
    await Promise.all(clients);
    t.diagnostic(`${requests} requests over ${ROTATIONS} rotations`);
    assert.deepEqual(refused, []);
    assert.equal(kids.size, ROTATIONS + 1);
    assert.ok(requests > 2000, `${requests} requests`);
  });

  test("the command line rotates too, and running services apply it", async () => {
    const keys = (command) =>
      spawnSync(ORIGIN, ["keys", command, "--data-dir", stack.data], {
        encoding: "utf8",
        env: { ...process.env, MASTER_KEY: stack.secrets.MASTER_KEY },
      });
    const rotated = keys("rotate");
    assert.equal(rotated.status, 0, rotated.stderr);
    const [, kid] = /^(\S{43}) signs from /.exec(rotated.stdout);
    assert.match(keys("list").stdout, new RegExp(`^${kid} `, "m"));
    const end = Date.now() + 60_000;
    for (;;) {
      const published = (await stack.send({ path: "/.well-known/jwks.json" })).json().keys;
      if (published.some((key) => key.kid === kid)) break;
      assert.ok(Date.now() < end, "it was never published");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  });
});
