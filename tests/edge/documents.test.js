// The services of docs/examples, run unchanged, with forged and valid assertions and two current secrets.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";

import { SignJWT, exportJWK, generateKeyPair } from "jose";

import { GO, PYTHON, ROOT, TARGET } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { makeAssertion, makeAssertionKey } from "../harness/assertion.js";
import { send } from "../harness/http.js";
import { GO_ENV, noPython } from "../harness/python.js";
import { remember } from "../harness/run.js";
import { testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

// `command` returns the program and its arguments for a service's file.
const LANGUAGES = [
  { name: "Node", file: "service.mjs", command: (file) => [process.execPath, file], skip: false },
  { name: "Python", file: "service.py", command: (file) => [PYTHON, file], skip: noPython },
  { name: "Go", file: "service.go", command: buildGo, skip: noPython },
];

// With the module of this checkout: no network, a separate cache.
function buildGo(file) {
  const folder = dirname(file);
  const binary = join(folder, "service");
  const module = join(ROOT, "packages", "assertion-go");
  writeFileSync(
    join(folder, "go.mod"),
    `module service\n\nrequire portcullis/assertion v0.0.0\n\nreplace portcullis/assertion => ${module}\n`,
  );
  const { status, stderr } = spawnSync(GO, ["build", "-o", binary, file], {
    cwd: folder,
    env: GO_ENV,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return [binary];
}

// The package of Python services.
const ENV = { ...process.env, PYTHONPATH: join(ROOT, "packages", "assertion-python"), PYTHONDONTWRITEBYTECODE: "1" };

// A folder with a service, and with the package of Node services.
function serviceFolder(scope, file) {
  const folder = mkdtempSync(join(TARGET, "documents-"));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  copyFileSync(join(ROOT, "docs", "examples", file), join(folder, file));
  mkdirSync(join(folder, "node_modules"));
  symlinkSync(join(ROOT, "packages", "assertion-node"), join(folder, "node_modules", "portcullis-assertion"));
  return folder;
}

describe("the services of docs/examples", () => {
  for (const { name, file, command, skip } of LANGUAGES) {
    test(`${name}'s takes good assertions and nothing else`, { skip }, async (t) => {
      const scope = testScope(t);
      const port = await probePort(0);
      const folder = serviceFolder(scope, file);
      const [one, two, stranger] = [makeAssertionKey("k1"), makeAssertionKey("k2"), makeAssertionKey("k1")];
      const processes = createProcesses();
      scope.after(() => processes.stopAll());
      const [program, ...parts] = command(join(folder, file));
      processes.start(name, program, parts, {
        env: { ...ENV, PORT: String(port), ASSERTION_KEYS_SHOP: `${one},${two}` },
      });
      const base = `http://127.0.0.1:${port}`;
      await until("the service answers", async () => (await send(base, { path: "/" })).status === 401);

      const target = "/orders/7?open=1";
      const now = Math.floor(Date.now() / 1000);
      const good = { aud: "shop", htm: "GET", htu: target, sub: "ada", roles: ["user", "ops"] };
      for (const [what, key, changes, status] of [
        ["good", one, {}, 200],
        ["good, by the second secret", two, {}, 200],
        ["another secret's", stranger, {}, 401],
        ["another upstream's", one, { aud: "users" }, 401],
        ["another path's", one, { htu: "/orders/8?open=1" }, 401],
        ["another query's", one, { htu: "/orders/7" }, 401],
        ["another method's", one, { htm: "POST" }, 401],
        ["of a clock 25 seconds behind, in its last second", one, { iat: now - 54, exp: now - 24 }, 200],
        ["of a clock 28 seconds ahead", one, { iat: now + 28, exp: now + 58 }, 200],
        ["for an hour", one, { exp: now + 3600 }, 401],
        ["31 seconds past its end", one, { iat: now - 61, exp: now - 31 }, 401],
        ["another gateway's", one, { iss: "stranger" }, 401],
      ]) {
        const assertion = await makeAssertion(key, { ...good, ...changes });
        const answer = await send(base, { path: target, headers: { "x-gateway-assertion": assertion } });
        assert.equal(answer.status, status, what);
        if (status === 200) assert.equal(answer.body, "ada user,ops");
      }
      for (const forged of [undefined, "", "a.b.c"]) {
        const headers = { "x-user-id": "ada", ...(forged === undefined ? {} : { "x-gateway-assertion": forged }) };
        assert.equal((await send(base, { path: target, headers })).status, 401);
      }
    });
  }

  for (const { name, file, command, skip } of [
    { name: "Node", file: "service-jwks.mjs", command: (file) => [process.execPath, file], skip: false },
    { name: "Python", file: "service-jwks.py", command: (file) => [PYTHON, file], skip: noPython },
    { name: "Go", file: "service-jwks.go", command: buildGo, skip: noPython },
  ]) {
    test(`${name}'s with public keys takes good assertions and nothing else`, { skip }, async (t) => {
      const scope = testScope(t);
      const port = await probePort(0);
      const folder = serviceFolder(scope, file);
      const gateway = await startUpstream(scope);
      const [one, two, stranger] = await Promise.all([1, 2, 3].map(() => generateKeyPair("ES256")));
      const jwks = async (...pairs) => ({
        keys: await Promise.all(
          pairs.map(async ({ publicKey }, index) => ({
            ...(await exportJWK(publicKey)),
            kid: `k${index + 1}`,
            alg: "ES256",
            use: "sig",
          })),
        ),
      });
      gateway.answer("GET /_gateway/jwks.json", { status: 503 });
      const processes = createProcesses();
      scope.after(() => processes.stopAll());
      const [program, ...parts] = command(join(folder, file));
      processes.start(name, program, parts, { env: { ...ENV, PORT: String(port), GATEWAY_URL: gateway.url } });
      const base = `http://127.0.0.1:${port}`;
      await until("the service answers", async () => (await send(base, { path: "/" })).status === 401);

      const target = "/orders/7?open=1";
      const now = Math.floor(Date.now() / 1000);
      const good = { iss: "portcullis", aud: "shop", iat: now, exp: now + 30, htm: "GET", htu: target, sub: "ada" };
      const make = ({ privateKey }, changes = {}, header = {}) =>
        new SignJWT({ ...good, roles: ["user", "ops"], claims: { iss: "id", tenant: "north" }, ...changes })
          .setProtectedHeader({ alg: "ES256", typ: "gateway+jwt", kid: "k1", ...header })
          .sign(privateKey);
      const ask = async (assertion) =>
        send(base, { path: target, headers: { "x-gateway-assertion": remember(await assertion) } });
      assert.equal((await ask(make(one))).status, 503, "without keys");
      gateway.answer("GET /_gateway/jwks.json", { json: await jwks(one, two) });
      await until("the service has the keys", async () => (await ask(make(one))).status === 200);
      for (const [what, assertion, status] of [
        ["good", make(one), 200],
        ["good, by the second key", make(two, {}, { kid: "k2" }), 200],
        ["a stranger's", make(stranger), 401],
        ["of an unknown key", make(stranger, {}, { kid: "k3" }), 401],
        [
          "by a public key as a secret",
          makeAssertion(`k1:${"A".repeat(43)}`, { aud: "shop", htu: target, sub: "ada" }),
          401,
        ],
        ["a client's token", make(one, {}, { typ: "at+jwt" }), 401],
        ["another upstream's", make(one, { aud: "users" }), 401],
        ["another path's", make(one, { htu: "/orders/8?open=1" }), 401],
        ["another gateway's", make(one, { iss: "stranger" }), 401],
        ["31 seconds past its end", make(one, { iat: now - 61, exp: now - 31 }), 401],
      ]) {
        const answer = await ask(assertion);
        assert.equal(answer.status, status, what);
        if (status === 200) assert.equal(answer.body, "ada user,ops north");
      }
    });
  }
});
