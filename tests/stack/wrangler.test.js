// wrangler without npm start, as `npx` runs it: its build command finds the pinned tools, and names the
// command to run if they are missing.

import assert from "node:assert/strict";
import { cpSync, mkdirSync, readFileSync, readdirSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";

import { ROOT, TARGET } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { send } from "../harness/http.js";
import { openLog, temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const require = createRequire(import.meta.url);

// Bytes of a worker, compressed. A free account may deploy 3 MiB; every isolate loads all of it. The path of a request
// is built for speed.
//
// The operators' page is 25 KiB of it: a text, which only its own requests read.
const WORKER_BYTES = (475 + 25) * 1024;

const QUIET = { CI: "true", WRANGLER_SEND_METRICS: "false", WRANGLER_WRITE_LOGS: "false" };

function startWrangler(scope, args, { cwd = ROOT, env = {} } = {}) {
  const processes = createProcesses();
  scope.after(() => processes.stopAll());
  const log = openLog("wrangler");
  scope.after(() => new Promise((resolve) => log.end(resolve)));
  const running = processes.start("wrangler", "npx", ["--no-install", "wrangler", ...args], {
    cwd,
    env: { ...process.env, ...QUIET, ...env },
    onLine(line) {
      output += `${line}\n`;
      log.write(`${line}\n`);
    },
  });
  let output = "";
  return { running, output: () => output };
}

describe("wrangler by itself", () => {
  test("dev builds the worker and serves it", async (t) => {
    const scope = testScope(t);
    const port = await probePort(0);
    const folder = temporaryFolder(scope, "wrangler");
    const { running, output } = startWrangler(scope, [
      "dev",
      ...["--port", String(port), "--inspector-port", "0", "--persist-to", folder],
    ]);
    const answer = await until("the edge answers", () => {
      if (running.hasEnded) return { status: `ended: ${output()}` };
      return send(`http://127.0.0.1:${port}`, { path: "/health" });
    });
    assert.equal(answer.status, 200);
    assert.match(output(), /worker built \(local, /);
  });

  test("deploy --dry-run builds the upload, below the size limit", { timeout: 900_000 }, async (t) => {
    const scope = testScope(t);
    const folder = temporaryFolder(scope, "deploy");
    const { running, output } = startWrangler(scope, ["deploy", "--dry-run", "--outdir", folder]);
    const { code } = await running.ended;
    assert.equal(code, 0, output());
    assert.match(output(), /worker built \(worker, /);
    const files = readdirSync(folder).filter((name) => /\.(?:js|wasm)$/.test(name));
    const bytes = files.reduce((sum, name) => sum + gzipSync(readFileSync(join(folder, name))).length, 0);
    assert.ok(files.some((name) => name.endsWith(".wasm")) && bytes < WORKER_BYTES, `${files} are ${bytes} bytes`);

    // It has no signature checks in Rust, so the setting that requires them makes it refuse every token.
    const { Miniflare, convertV4MiniflareOptions } = require("miniflare");
    const types = { js: "ESModule", wasm: "CompiledWasm" };
    for (const [backend, expected] of [
      ["rust", [503, "gateway_misconfigured"]],
      ["webcrypto", [404, "route_unknown"]],
    ]) {
      const runtime = new Miniflare(
        convertV4MiniflareOptions({
          modules: files
            .sort((a, b) => Number(b === "entry.js") - Number(a === "entry.js"))
            .map((name) => ({ type: types[name.split(".").pop()], path: join(folder, name) })),
          modulesRoot: folder,
          compatibilityDate: "2026-10-23",
          bindings: { SIGNATURE_BACKEND: backend, DEVELOPMENT: "true" },
          host: "127.0.0.1",
          port: 0,
          cf: false,
          handleStructuredLogs: () => {},
        }),
      );
      scope.after(() => runtime.dispose());
      const answer = await fetch(new URL("/no-such-route", await runtime.ready));
      assert.deepEqual([answer.status, (await answer.json()).code], expected, backend);
    }
  });

  test("without the pinned tools it names the command to run", async (t) => {
    const scope = testScope(t);
    // A checkout with npm packages only.
    const clone = join(temporaryFolder(scope, "clone"), "clone");
    mkdirSync(clone);
    for (const name of [
      "package.json",
      "wrangler.toml",
      "gateway.toml",
      "Cargo.toml",
      "Cargo.lock",
      "cli",
      "scripts",
      "src",
    ])
      cpSync(join(ROOT, name), join(clone, name), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(clone, "node_modules"));
    assert.ok(TARGET.startsWith(ROOT));
    const { running, output } = startWrangler(scope, ["deploy", "--dry-run", "--outdir", "out"], { cwd: clone });
    const { code } = await running.ended;
    assert.notEqual(code, 0);
    assert.match(output(), /portcullis: wasm-bindgen [\d.]+ is not in \.tools; run: npm run setup/);
  });
});
