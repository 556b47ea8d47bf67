// What `npm start` prints when a policy or a source file is saved.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { CHANGED, builtLine, createReloadReporter, failedLines, staleLine } from "../../cli/lib/reload.js";

async function outputOf(lines, missing = []) {
  const said = [];
  const read = createReloadReporter({
    say: (text) => said.push(text),
    fetchMissing: async () => missing,
    secretsFile: ".dev.vars",
    log: ".data/logs/edge.log",
    policy: "policies/shop.toml",
  });
  for (const line of lines) await read(line);
  return said;
}

const changed = (file) => `The file ${file} changed, restarting build...`;
const build = (line) => `[custom build] ${line}`;
const built = build(builtLine("local", 3.14));

describe("output about a reload", () => {
  for (const [title, lines, missing, expected] of [
    ["the first build says nothing", [built], [], []],
    ["a policy that is good", [changed("gateway.toml"), built], [], ["✓ policy reloaded (gateway.toml, 3.1 s)"]],
    ["a source file", [changed("src/lib.rs"), built], [], ["✓ worker reloaded (src/lib.rs, 3.1 s)"]],
    [
      "a policy that lies elsewhere goes by its own name",
      [changed(CHANGED), built],
      [],
      ["✓ policy reloaded (policies/shop.toml, 3.1 s)"],
    ],
    [
      "a policy with two mistakes",
      [
        changed("gateway.toml"),
        ...failedLines({ lines: ["gateway.toml:3:1: one", "gateway.toml:9:5: two"] }, { isPolicy: true }).map(build),
      ],
      [],
      ["✗ gateway.toml:3:1: one", "✗ gateway.toml:9:5: two", "  not reloaded; the previous policy stays in use"],
    ],
    [
      "sources that do not compile",
      [
        changed("src/lib.rs"),
        ...failedLines(
          { lines: ["error: no"], message: "The worker does not compile (exit code 101); the lines above say why." },
          { isPolicy: false },
        ).map(build),
      ],
      [],
      [
        "✗ The worker does not compile (exit code 101); .data/logs/edge.log says why.",
        "  not reloaded; the previous worker stays in use",
      ],
    ],
    [
      "a source file, where nothing can compile it",
      [changed("src/lib.rs"), build(staleLine("Rust is missing")), built],
      [],
      ["✗ Rust is missing: changed sources are not compiled.", "  not reloaded; the previous worker stays in use"],
    ],
    [
      "a policy, where nothing can compile sources that have changed",
      [changed("gateway.toml"), build(staleLine("Rust is missing")), built],
      [],
      ["✓ policy reloaded (gateway.toml, 3.1 s)"],
    ],
    [
      "a policy that needs a secret",
      [changed("gateway.toml"), built],
      ["secret ASSERTION_KEYS_SHOP"],
      [
        "✗ policy reloaded (gateway.toml, 3.1 s); the gateway is not ready",
        "  secret ASSERTION_KEYS_SHOP; write it into .dev.vars, then restart the gateway",
      ],
    ],
    ["other lines of wrangler's", ["[wrangler:info] Ready", "worker built (local, 1 s)"], [], []],
  ]) {
    test(title, async () => assert.deepEqual(await outputOf(lines, missing), expected));
  }
});
