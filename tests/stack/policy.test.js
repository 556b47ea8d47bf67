// `npm run policy:push` and `policy:rollback` with a running gateway, and `npm run check`.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { NODE, ROOT } from "../../scripts/lib/paths.js";
import { temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { startStack } from "../harness/stack.js";
import { until } from "../harness/wait.js";

const scope = fileScope();

function run(script, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(NODE, [join(ROOT, "scripts", script), ...args], { cwd: ROOT, env: { ...process.env, ...env } });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => (output += text));
    child.on("close", (code) => resolve({ code, output }));
  });
}

describe("policies on the command line", () => {
  test("check prints the table, answers who may call, and reports mistakes with their line", async () => {
    const folder = temporaryFolder(scope, "check");
    const broken = join(folder, "gateway.toml");
    writeFileSync(
      broken,
      readFileSync(join(ROOT, "gateway.toml"), "utf8").replace('access = "user"', 'acces = "user"'),
    );
    for (const [args, code, words] of [
      [
        [],
        0,
        /GET,PUT,PATCH,DELETE +\/api\/v1\/users\/\{id\} +the user \{id\}, or role admin \(of auth-service\) +users +15000 ms/,
      ],
      [["GET", "/api/v1/users/7"], 1, /401 without a token/],
      [["GET", "/api/v1/users/7", "--user", "7"], 0, /^yes$/m],
      [["GET", "/api/v1/users/7", "--roles", "user"], 1, /403: not this caller/],
      [["GET", "/api/v1/users/7", "--roles", "user,admin"], 0, /^yes$/m],
      [["POST", "/api/v1/users/7"], 1, /405: .* takes DELETE, GET, HEAD, PATCH, PUT/],
      [["GET", "/nowhere"], 1, /404/],
      [["GET", "/a/../b"], 1, /400/],
      [["--file", broken], 1, /gateway\.toml:\d+:\d+: .*acces/],
      [["--help"], 0, /who may call the route/],
    ]) {
      const said = await run("check.js", args);
      assert.equal(said.code, code, `${args}: ${said.output}`);
      assert.match(said.output, words, args.join(" "));
    }
  });

  describe("pushed", () => {
    let stack, env, file;

    before(async () => {
      stack = await startStack(scope);
      appendFileSync(join(stack.data, "edge.vars"), 'POLICY_REREAD_S="1"\n');
      await stack.edge.restart();
      env = { DATA_DIR: stack.data };
      const folder = temporaryFolder(scope, "push");
      file = (extra) => {
        const path = join(folder, "gateway.toml");
        writeFileSync(path, `${readFileSync(join(ROOT, "gateway.toml"), "utf8")}\n${extra}`);
        return path;
      };
    });

    // The user service has none of these paths either, and answers with its own 404.
    const isRouted = async (path) => (await stack.send({ path })).json().code !== "route_unknown";
    const route = (path) => `[[routes]]\npath = "${path}"\nmethods = ["GET"]\nupstream = "users"\naccess = "public"\n`;

    test("one is in use soon, an invalid one is refused, and a rollback restores the previous one", async () => {
      assert.equal(await isRouted("/one"), false);
      let said = await run("policy-push.js", ["--file", file(route("/one"))], env);
      assert.equal(said.code, 0, said.output);
      await until("it is in use", () => isRouted("/one"));

      said = await run("policy-push.js", ["--file", file('[[routes]]\npath = "/two"\n')], env);
      assert.notEqual(said.code, 0);
      assert.match(said.output, /gateway\.toml:\d+:\d+: /);
      assert.match(said.output, /is not pushed/);

      said = await run("policy-push.js", ["--file", file(route("/three"))], env);
      assert.equal(said.code, 0, said.output);
      await until("the next one is", async () => (await isRouted("/three")) && !(await isRouted("/one")));

      said = await run("policy-rollback.js", [], env);
      assert.equal(said.code, 0, said.output);
      await until("the one before is", async () => (await isRouted("/one")) && !(await isRouted("/three")));
      const { policy_origin: origin } = JSON.parse((await stack.send({ path: "/status" })).body);
      assert.equal(origin, "pushed");
    });

    test("an unknown command prints the help", async () => {
      const said = await run("policy-push.js", ["--frob"], env);
      assert.notEqual(said.code, 0);
      assert.match(said.output, /"--frob" is not known; see: npm run policy:push -- --help/);
    });
  });
});
