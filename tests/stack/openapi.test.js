// The services checked against their OpenAPI documents by schemathesis, which generates valid and invalid
// requests and checks each answer (status, headers, body, refusal of invalid input, required credentials).
// With few, fixed examples; `npm run fuzz:api` makes more.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startForFuzzing } from "../harness/api-fuzz.js";
import { noPython } from "../harness/python.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

// Enough to cover every operation; see the counts.
const EXAMPLES = Number(process.env.FUZZ_EXAMPLES ?? 10);
const RANDOM = process.env.FUZZ_EXAMPLES !== undefined;

describe("the services and their OpenAPI documents", { skip: noPython }, () => {
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
