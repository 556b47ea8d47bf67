// Project Wycheproof's signature vectors with the runtime's WebCrypto in workerd, through the function that the
// worker calls. A malformed signature is false and not an error: an error would be a 503.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { fileScope } from "../harness/scope.js";
import { wycheproofFiles } from "../harness/wycheproof.js";

const require = createRequire(import.meta.url);

const WORKER = `
import { importKey, verify } from "./bindings.js";
const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
export default {
  async fetch(request) {
    const answers = [];
    for (const { algorithm, jwk, signature, message } of await request.json()) {
      try {
        answers.push(await verify(await importKey(algorithm, jwk, "verify"), bytes(signature), bytes(message)));
      } catch (error) {
        answers.push(String(error));
      }
    }
    return Response.json(answers);
  },
};`;

// The worker refuses Ed25519 signatures of another length itself (src/host/ports.rs), because the runtime throws.
const reachesRuntime = ({ algorithm, signature }) =>
  algorithm !== "EdDSA" || Buffer.from(signature, "base64url").length === 64;

const scope = fileScope();

describe("Wycheproof over WebCrypto", { skip: onlyOnPlatform("no gateway runs in this test") }, () => {
  let url;

  before(async () => {
    const { Miniflare, convertV4MiniflareOptions } = require("miniflare");
    const runtime = new Miniflare(
      convertV4MiniflareOptions({
        modules: [
          { type: "ESModule", path: "worker.js", contents: WORKER },
          {
            type: "ESModule",
            path: "bindings.js",
            contents: readFileSync(join(ROOT, "src", "host", "bindings.js"), "utf8"),
          },
        ],
        compatibilityDate: "2026-10-23",
        host: "127.0.0.1",
        port: 0,
        cf: false,
      }),
    );
    scope.after(() => runtime.dispose());
    url = await runtime.ready;
  });

  for (const { file, cases: all } of wycheproofFiles()) {
    const cases = all.filter(reachesRuntime);
    test(`${file}: each of ${cases.length} vectors is decided as the file says`, async (t) => {
      const response = await fetch(url, { method: "POST", body: JSON.stringify(cases) });
      const answers = await response.json();
      const wrong = [];
      const count = { valid: 0, invalid: 0, acceptable: 0 };
      for (const [index, { id, expected }] of cases.entries()) {
        const answer = answers[index];
        const isRight = typeof answer === "boolean" && (expected === "acceptable" || answer === (expected === "valid"));
        if (isRight) count[expected] += 1;
        else wrong.push(`${id}: ${expected} but ${answer}`);
      }
      t.diagnostic(`${file}: ${JSON.stringify(count)}`);
      assert.deepEqual(wrong, []);
      assert.equal(answers.length, cases.length);
    });
  }
});
