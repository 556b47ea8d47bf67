// What the services say of themselves, held against what they do by schemathesis: it makes
// up requests, good and bad, from the descriptions, and checks each answer (status, headers,
// body, refusal of what is wrong, credentials that are asked for). Here with few examples and
// the same ones each time; `npm run fuzz:api` tries more, and others.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startForFuzzing } from "../harness/api-fuzz.js";
import { noPython } from "../harness/python.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

// Enough for every operation to have been asked in every way; see the counts.
const EXAMPLES = Number(process.env.FUZZ_EXAMPLES ?? 10);
const RANDOM = process.env.FUZZ_EXAMPLES !== undefined;

describe("the services as they describe themselves", { skip: noPython }, () => {
  let services;

  before(async () => {
    services = await startForFuzzing(scope);
  });

  for (const [service, side, name] of [
    ["auth", "client", "the auth service, through the gateway"],
    ["auth", "inside", "the auth service, as other services ask it"],
    ["users", "client", "the user service, through the gateway"],
    ["users", "inside", "the user service, as other services ask it"],
  ]) {
    test(`schemathesis has no finding at ${name}`, { timeout: 3_600_000 }, async (t) => {
      const result = await services.fuzz(service, side, { examples: EXAMPLES, random: RANDOM });
      assert.ok(result.ok && result.generated > 0, result.output);
      assert.equal(result.passed, result.generated, result.output);
      t.diagnostic(`${result.generated} requests, no finding`);
    });
  }
});
