// `npm start`: starts on free ports in a temporary directory without a terminal, prints no secret, and leaves
// no process, however it is ended.

import assert from "node:assert/strict";
import { cpSync, existsSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { isAlive } from "../../cli/lib/processes.js";
import { findSecrets, listFiles } from "../../scripts/lib/secret-scan.js";
import { parseVars } from "../../cli/lib/vars.js";
import { secretFiles } from "../../scripts/lib/secrets.js";
import { send } from "../harness/http.js";
import { RUN, remember, temporaryFolder } from "../harness/run.js";
import { runScript } from "../harness/scripts.js";
import { testScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

const FREE = { EDGE_PORT: "0", AUTH_PORT: "0", USERS_PORT: "0" };

let count = 0;

async function start(scope, { args = [], env = {}, npm } = {}) {
  const data = env.DATA_DIR ?? temporaryFolder(scope, "start");
  const logs = join(data, "logs");
  count += 1;
  // For the secret scan of the run.
  scope.after(() => cpSync(logs, join(RUN, "logs", `start-${process.pid}-${count}`), { recursive: true }));
  const running = runScript("start", args, { env: { ...FREE, DATA_DIR: data, ...env }, scope, npm });
  await running.says(/Ctrl-C ends everything/, 120_000);
  const services = {};
  for (const [, name, url, pid] of running.out().matchAll(/^ {2}(edge|auth|users) +(http:\S+) +process (\d+)$/gm)) {
    services[name] = { url, pid: Number(pid), port: Number(new URL(url).port) };
  }
  const secrets = parseVars(readFileSync(secretFiles(data).origin, "utf8"));
  for (const value of Object.values(secrets)) remember(value);
  return { ...running, data, logs, services, secrets };
}

async function assertNothingIsLeft(services) {
  for (const [name, { pid, port }] of Object.entries(services)) {
    await until(`${name} has ended with its children`, () => !isAlive(pid));
    assert.equal(await probePort(port), port, `the port of ${name} is free again`);
  }
}

describe("npm start", () => {
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    test(`starts, and leaves no process after ${signal}`, async (t) => {
      const stack = await start(testScope(t));
      assert.deepEqual(Object.keys(stack.services).sort(), ["auth", "edge", "users"]);
      assert.equal((await send(stack.services.edge.url, { path: "/ready" })).status, 200);
      const login = { email: "nobody@example.com", password: remember("not a password at all") };
      const direct = await send(stack.services.auth.url, {
        method: "POST",
        path: "/api/v1/auth/login",
        json: login,
      });
      assert.equal(direct.json().code, "invalid_credentials", "the auth service's own port takes logins");
      stack.child.kill(signal);
      const { code } = await stack.ended;
      assert.equal(code, 0);
      await assertNothingIsLeft(stack.services);
      for (const secret of Object.values(stack.secrets))
        assert.ok(!(stack.out() + stack.err()).includes(secret), "it prints no secret");
      assert.deepEqual(findSecrets(listFiles(stack.logs), Object.values(stack.secrets)), []);
    });
  }

  test("one Ctrl-C, which npm forwards as a second signal, ends the services in order", async (t) => {
    const stack = await start(testScope(t), { npm: true });
    // As a terminal does: a signal to the whole foreground process group.
    process.kill(-stack.child.pid, "SIGINT");
    await stack.ended;
    await assertNothingIsLeft(stack.services);
    assert.match(stack.out(), /Stopping … press Ctrl-C again to kill/);
    for (const name of ["auth", "users"])
      assert.match(readFileSync(join(stack.logs, `${name}.log`), "utf8"), /"stopped"/, name);
  });

  test("leaves no process when it is killed", async (t) => {
    const stack = await start(testScope(t));
    stack.child.kill("SIGKILL");
    await stack.ended;
    await assertNothingIsLeft(stack.services);
  });

  test("names the service that failed, with its last lines, and ends the others", async (t) => {
    const stack = await start(testScope(t));
    process.kill(stack.services.users.pid, "SIGKILL");
    const { code, err } = await stack.ended;
    assert.equal(code, 1);
    assert.match(err, /users ended \(SIGKILL\)/);
    assert.match(err, /^ {2}\| .*"listening"/m);
    await assertNothingIsLeft(stack.services);
  });

  test("a service that is stopped on purpose can be started again with the printed command", async (t) => {
    const scope = testScope(t);
    const stack = await start(scope);
    process.kill(stack.services.auth.pid, "SIGTERM");
    const [, settings] = await stack.says(/^ {2}(.*) npm start -- auth$/m);
    assert.equal((await send(stack.services.edge.url, { path: "/health" })).status, 200, "the edge keeps running");
    const env = Object.fromEntries(settings.split(" ").map((setting) => setting.split("=")));
    assert.equal(Number(env.AUTH_PORT), stack.services.auth.port);
    const again = await start(scope, { args: ["auth"], env: { ...env, DATA_DIR: stack.data } });
    assert.deepEqual(Object.keys(again.services), ["auth"]);
    const login = { email: "nobody@example.com", password: remember("not a password at all") };
    assert.equal(
      (await send(stack.services.edge.url, { method: "POST", path: "/api/v1/auth/login", json: login })).status,
      401,
    );
  });
});

// A search path on which node is found, and cargo and rustc are not.
function pathWithoutCargo(scope) {
  const folder = temporaryFolder(scope, "path");
  symlinkSync(process.execPath, join(folder, "node"));
  const hasRust = (other) => ["cargo", "rustc"].some((name) => existsSync(join(other, name)));
  return [folder, ...process.env.PATH.split(delimiter).filter((other) => !hasRust(other))].join(delimiter);
}

describe("a policy that is saved while npm start runs", () => {
  test("takes effect, or is reported with its position while the previous one keeps serving", async (t) => {
    const scope = testScope(t);
    if (!process.env.TEST_BUILT) await runScript("setup", [], { env: { DATA_DIR: temporaryFolder(scope) } }).ended;
    const folder = temporaryFolder(scope, "policy");
    const policy = join(folder, "gateway.toml");
    const good = readFileSync(join(ROOT, "gateway.toml"), "utf8");
    writeFileSync(policy, good);
    // A policy is data: no compiler is needed for another one.
    const stack = await start(scope, { env: { GATEWAY_CONFIG: policy, PATH: pathWithoutCargo(scope) } });
    assert.match(stack.out(), /Rust is missing: the existing build is used\.$/m);
    const answers = async (path) => (await send(stack.services.edge.url, { path })).status;
    const save = async (text, pattern) => {
      const before = stack.out().length;
      writeFileSync(policy, text);
      return until(`npm start says ${pattern}`, () => pattern.exec(stack.out().slice(before)), 170_000);
    };

    const line = good.split("\n").findIndex((text) => text.startsWith("[upstreams.auth]")) + 2;
    const broken = good.replace("[upstreams.auth]\n", '[upstreams.auth]\nulr = "http://localhost:8083"\n');
    const [mistake] = await save(broken, /^✗ .*$/m);
    assert.match(mistake, new RegExp(`^✗ ${policy}:${line}:\\d+: .*ulr`));
    await stack.says(/not reloaded; the previous policy stays in use/);
    assert.equal(await answers("/health"), 200);
    assert.equal(await answers("/api/v1/users/7"), 401, "the previous policy stays in use");

    const shop =
      '\n[upstreams.shop]\nurl = "http://127.0.0.1:9"\n\n[[routes]]\npath = "/shop"\nmethods = ["GET"]\nupstream = "shop"\naccess = "public"\n';
    await save(
      `${good}${shop}`,
      /^✗ policy reloaded \(.*gateway\.toml, [\d.]+ s\); the gateway is not ready\n {2}secret ASSERTION_KEYS_SHOP.*write it into \S+/m,
    );

    await save(good, /^✓ policy reloaded \(.*gateway\.toml, [\d.]+ s\)$/m);
    assert.equal(await answers("/shop"), 404);
    stack.child.kill("SIGINT");
    assert.equal((await stack.ended).code, 0);
  });
});
