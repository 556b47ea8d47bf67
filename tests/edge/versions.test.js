// Which deployed version answered: in the log, and for operators in /status.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startGateway } from "../harness/edge.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

const TOKEN = remember("a-token-for-operators-of-versions");
const STRANGER = { "cf-connecting-ip": "192.0.2.7" };

describe("the id of the deployed version", { skip: onlyOnPlatform("no deployed versions") }, () => {
  let edge;

  before(async () => {
    ({ edge } = await startGateway(scope, { vars: { METRICS_TOKEN: TOKEN } }));
  });

  test("is in /status, for operators only, and in each line of the log", async () => {
    const status = await edge.get("/status", { token: TOKEN, headers: STRANGER });
    const { worker_version: version } = status.json();
    assert.match(version, /^[0-9a-f-]{36}$/);
    const asStranger = await edge.get("/status", { headers: STRANGER });
    assert.ok(!asStranger.body.includes(version), asStranger.body);
    for (const path of ["/nowhere", "/api/v1/auth/me"]) {
      const line = await edge.lineOf(await edge.get(path));
      assert.equal(line.worker_version, version, path);
    }
  });

  test("is in the line of a version that is not configured", async () => {
    await edge.restart({ vars: { METRICS_TOKEN: "short" } });
    const answer = await edge.get("/nowhere");
    assert.equal(answer.json().code, "gateway_misconfigured");
    assert.match((await edge.lineOf(answer)).worker_version, /^[0-9a-f-]{36}$/);
  });
});
