// A project without Rust: the tarballs of the npm packages, installed into an empty folder, with neither cargo nor
// rustc on the PATH. The steps are those of docs/quick-start-workers.md.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { request } from "node:http";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";

import { splitLines } from "../../cli/lib/commands.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { createProgress } from "../../cli/lib/progress.js";
import { parseVars } from "../../cli/lib/vars.js";
import { packWith } from "../../scripts/lib/packages.js";
import { BUILD, NODE } from "../../scripts/lib/paths.js";
import { openLog, remember, temporaryFolder } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { until } from "../harness/wait.js";

// wrangler and workerd are 200 MB; from npm's cache they are there in seconds.
const INSTALL_MS = 170_000;
const COMMAND_MS = 60_000;

// Bytes of the tarball, most of which are two wasm modules.
const PACKAGE_BYTES = 4 * 1024 * 1024;

const NO_NETWORK = /ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENOTCACHED/;

const scope = fileScope();
const processes = createProcesses();
scope.after(() => processes.stopAll());

// A PATH with Node, npm and the system's tools, but no Rust.
function pathWithoutRust(folder) {
  mkdirSync(folder);
  symlinkSync(NODE, join(folder, "node"));
  for (const name of ["npm", "npx"]) symlinkSync(findOnPath(name), join(folder, name));
  const system = ["/usr/bin", "/bin"].filter(
    (one) => !existsSync(join(one, "cargo")) && !existsSync(join(one, "rustc")),
  );
  return [folder, ...system].join(":");
}

function findOnPath(name) {
  const folder = process.env.PATH.split(":").find((one) => existsSync(join(one, name)));
  assert.ok(folder, `${name} is not on the PATH`);
  return join(folder, name);
}

// Starts a program in its own process group. Resolves `ended` with its exit code and output.
function start(command, args, { cwd, env, input = "" }) {
  const log = openLog(`package-${args.find((one) => /^\w+$/.test(one)) ?? command}`);
  const child = spawn(command, args, { cwd, env, stdio: ["pipe", "pipe", "pipe"], detached: true });
  processes.adopt(child);
  child.stdin.on("error", () => {}).end(input);
  const running = { child, out: "", hasEnded: false };
  for (const stream of [child.stdout, child.stderr])
    splitLines(stream, (line) => {
      running.out += `${line}\n`;
      log.write(`${line}\n`);
    });
  running.ended = new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (code) => {
      running.hasEnded = true;
      log.end();
      resolve({ code, out: running.out });
    });
  });
  return running;
}

async function run(command, args, { bound = COMMAND_MS, ...options }) {
  const running = start(command, args, options);
  const timer = setTimeout(() => process.kill(-running.child.pid, "SIGKILL"), bound);
  const ended = await running.ended;
  clearTimeout(timer);
  return ended;
}

// An answer, by a request whose headers may be any.
function ask(url, { method = "GET", headers = {}, body } = {}) {
  return new Promise((resolve, reject) => {
    const asking = request(url, { method, headers, agent: false, timeout: COMMAND_MS }, (response) => {
      let text = "";
      response.setEncoding("utf8").on("data", (part) => (text += part));
      response.on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    asking.on("error", reject);
    asking.end(body);
  });
}

const FORM = { "content-type": "application/x-www-form-urlencoded" };

describe("a project of npm create portcullis", () => {
  let packed;
  let app;
  let env;
  let gateway;
  let issuer;
  let example;
  let dev;
  let why;

  const command = (...args) => run("npx", ["--no", "portcullis", ...args], { cwd: app, env });
  const replaceIn = (name, from, to) => {
    const file = join(app, name);
    const text = readFileSync(file, "utf8");
    assert.ok(text.includes(from), `${name} has no ${from}`);
    writeFileSync(file, text.replaceAll(from, to));
  };
  const tokenOf = async (user, roles = "user") => {
    const answer = await ask(`${issuer}/token`, {
      ...{ method: "POST", headers: FORM, body: String(new URLSearchParams({ user, roles })) },
    });
    assert.equal(answer.status, 200, answer.text);
    return remember(JSON.parse(answer.text).access_token);
  };
  const hello = (user, token) =>
    ask(`${gateway}/hello/${user}`, { headers: token === undefined ? {} : { authorization: `Bearer ${token}` } });

  before(async () => {
    const folder = temporaryFolder(scope, "packages");
    packed = await packWith(BUILD, { progress: createProgress({ out: { write() {} } }), processes });
    const tarball = Object.fromEntries(packed.map(({ name, file }) => [name, file]));
    env = {
      ...{ HOME: process.env.HOME, PATH: pathWithoutRust(join(folder, "bin")), CI: "true" },
      ...Object.fromEntries(
        Object.entries(process.env).filter(([name]) => /^(npm_config_|https?_proxy|NODE_EXTRA)/i.test(name)),
      ),
    };
    const compilers = await run("sh", ["-c", "command -v cargo; command -v rustc"], { cwd: folder, env });
    assert.equal(compilers.out, "", "no Rust on the PATH");

    const created = await run(
      "npm",
      ["exec", "--yes", "--package", tarball["create-portcullis"], "--", "create-portcullis", "app", "--yes"],
      { cwd: folder, env },
    );
    assert.equal(created.code, 0, created.out);
    app = join(folder, "app");
    const installed = await run(
      "npm",
      ["install", "--save-dev", tarball.portcullis, "--prefer-offline", "--no-audit", "--no-fund", "--ignore-scripts"],
      { cwd: app, env, bound: INSTALL_MS },
    );
    if (installed.code !== 0 && NO_NETWORK.test(installed.out)) {
      why = "the dependencies are neither in npm's cache nor can the registry be reached";
      return;
    }
    assert.equal(installed.code, 0, installed.out);

    const [issuerPort, examplePort] = await Promise.all([probePort(0), probePort(0)]);
    replaceIn("gateway.toml", "127.0.0.1:8788", `127.0.0.1:${issuerPort}`);
    replaceIn("gateway.toml", "127.0.0.1:8790", `127.0.0.1:${examplePort}`);
    issuer = `http://127.0.0.1:${issuerPort}`;
    example = `http://127.0.0.1:${examplePort}`;
    dev = start(NODE, [join(app, "node_modules", "portcullis", "bin", "portcullis.js"), "dev", "--port", "0"], {
      cwd: app,
      env,
    });
    await until("the gateway is ready", () => dev.hasEnded || dev.out.includes("The gateway is ready"));
    gateway = /The gateway is ready .*: (http:\S+)/.exec(dev.out)?.[1];
    assert.ok(gateway, dev.out);
  });

  const step = (name, work) => test(name, (t) => (why === undefined ? work(t) : t.skip(why)));

  test("the package holds the Worker without a policy, the policy tool, and no other build", () => {
    const { files, size } = packed.find(({ name }) => name === "portcullis");
    const paths = files.map(({ path }) => path);
    for (const path of ["worker/entry.js", "worker/index_bg.wasm", "policy/portcullis_cli_bg.wasm", "LICENSE-MIT"])
      assert.ok(paths.includes(path), path);
    const folders = /^(?:bin|commands|lib|policy|schema|serve(?:\/workers)?|worker(?:\/snippets\/.*)?)\/[^/]+$|^[^/]+$/;
    assert.deepEqual(
      paths.filter((path) => !folders.test(path) || /^worker\/(?:policy|validators)\.js$/.test(path)),
      [],
    );
    assert.ok(size < PACKAGE_BYTES, `${size} bytes`);
  });

  step("its policy is valid, and decides as its tests expect", async () => {
    const checked = await command("check");
    assert.equal(checked.code, 0, checked.out);
    assert.match(checked.out, /\/hello\/\{user\}/);
    const tested = await command("test");
    assert.equal(tested.code, 0, tested.out);
    assert.match(tested.out, /^6 decisions are as expected/m);
  });

  step("a wrong expectation fails the test, with its line", async () => {
    replaceIn("gateway.tests.toml", 'user = "bob", expect = 403', 'user = "bob", expect = 200');
    const tested = await command("test");
    assert.equal(tested.code, 1, tested.out);
    assert.match(tested.out, /gateway\.tests\.toml:\d+:/);
    replaceIn("gateway.tests.toml", 'user = "bob", expect = 200', 'user = "bob", expect = 403');
  });

  step("a request without a token gets 401, with a token 200, and another user's 403", async () => {
    const without = await hello("ada");
    assert.deepEqual([without.status, JSON.parse(without.text).code], [401, "credentials_missing"]);
    const token = await tokenOf("ada");
    const own = await hello("ada", token);
    assert.equal(own.status, 200, own.text);
    assert.deepEqual(JSON.parse(own.text), { method: "GET", path: "/hello/ada", user: "ada", roles: ["user"] });
    assert.equal((await hello("bob", token)).status, 403);
    assert.equal((await hello("bob", await tokenOf("eve", "admin"))).status, 200);
  });

  step("the login page issues a token to a browser on this machine", async () => {
    const page = await ask(`${issuer}/`);
    assert.equal(page.status, 200);
    assert.match(page.headers["content-security-policy"], /default-src 'none'/);
    assert.match(page.text, /<form method="post"/);
    const login = await ask(`${issuer}/`, {
      ...{
        method: "POST",
        headers: { ...FORM, origin: issuer, "sec-fetch-site": "same-origin" },
        body: "user=ada%3Cb%3E&roles=user",
      },
    });
    assert.equal(login.status, 200);
    assert.ok(!login.text.includes("ada<b>"), "the user's name is escaped");
    assert.ok(login.text.includes(`curl -i ${gateway}/hello/ada%3Cb%3E `));
    const token = remember(/<pre id="token">([\w.-]+)<\/pre>/.exec(login.text)[1]);
    assert.equal((await hello("ada%3Cb%3E", token)).status, 200);
  });

  for (const [what, { status, ...sent }] of Object.entries({
    "another site's form": { status: 403, headers: { ...FORM, "sec-fetch-site": "cross-site" } },
    "another site's script": { status: 403, headers: { ...FORM, origin: "https://evil.example" } },
    "a name that points to this machine": { status: 421, headers: { ...FORM, host: "evil.example" } },
    "a long body": { status: 413, headers: FORM, body: `user=${"a".repeat(20_000)}` },
    "a long name": { status: 400, headers: FORM, body: `user=${"a".repeat(300)}` },
    "no user": { status: 400, headers: FORM, body: "roles=admin" },
  }))
    step(`the development issuer refuses ${what}`, async () => {
      const answer = await ask(`${issuer}/token`, { method: "POST", body: "user=ada", ...sent });
      assert.equal(answer.status, status);
      assert.ok(!answer.text.includes("access_token"));
    });

  step("the example service refuses a request that the gateway has not signed", async () => {
    const answer = await ask(`${example}/hello/ada`, { headers: { "x-user-id": "ada", "x-user-roles": "admin" } });
    assert.equal(answer.status, 401);
  });

  step("explain says why the token is accepted, and does not print its signature", async () => {
    const token = await tokenOf("ada");
    const args = ["--no", "portcullis", "explain", "--token", "-", "GET", "/hello/ada"];
    const explained = await run("npx", args, { cwd: app, env, input: token });
    assert.equal(explained.code, 0, explained.out);
    assert.match(explained.out, /The token is accepted/);
    assert.ok(!explained.out.includes(token.split(".")[2]));
  });

  step("a saved policy is applied, and an invalid one is reported while the previous one serves", async () => {
    const token = await tokenOf("ada");
    replaceIn("gateway.toml", 'access = { any = [{ owner = "user" }', 'acess = { any = [{ owner = "user" }');
    await until("the mistake is reported", () => /✗ gateway\.toml:\d+:\d+: .*access/.test(dev.out));
    assert.equal((await hello("ada", token)).status, 200);
    replaceIn("gateway.toml", 'acess = { any = [{ owner = "user" }', 'access = { any = [{ owner = "user" }');
    replaceIn("gateway.toml", "/hello/{user}", "/greet/{user}");
    replaceIn("gateway.tests.toml", "/hello/", "/greet/");
    await until("the new route is there", async () => {
      const answer = await ask(`${gateway}/greet/ada`, { headers: { authorization: `Bearer ${token}` } });
      return answer.status === 200;
    });
    assert.equal((await hello("ada", token)).status, 404);
  });

  step("status shows the running gateway", async () => {
    const shown = await command("status", gateway);
    assert.equal(shown.code, 0, shown.out);
    assert.match(shown.out, /"ready": true/);
    const secrets = await command("secrets");
    assert.equal(secrets.code, 0, secrets.out);
    assert.match(secrets.out, /present +ASSERTION_KEYS_EXAMPLE/);
  });

  step("serve runs the same policy without Cloudflare", async () => {
    const port = await probePort(0);
    const keys = parseVars(readFileSync(join(app, ".dev.vars"), "utf8"));
    const serving = start(
      NODE,
      [
        join(app, "node_modules", "portcullis", "bin", "portcullis.js"),
        "serve",
        "--development",
        "--listen",
        `127.0.0.1:${port}`,
      ],
      { cwd: app, env: { ...env, ...keys } },
    );
    const served = `http://127.0.0.1:${port}`;
    await until("it serves", async () => serving.hasEnded || (await ask(`${served}/ready`)).status === 200);
    assert.ok(!serving.hasEnded, serving.out);
    const headers = { authorization: `Bearer ${await tokenOf("ada")}` };
    assert.equal((await ask(`${served}/greet/ada`)).status, 401);
    const own = await ask(`${served}/greet/ada`, { headers });
    assert.equal(own.status, 200, own.text);
    assert.equal((await ask(`${served}/greet/bob`, { headers })).status, 403);
    serving.child.kill("SIGTERM");
    assert.equal((await serving.ended).code, 0, serving.out);
  });

  step("wrangler builds it for a deployment", async () => {
    const built = await run("npx", ["--no", "wrangler", "deploy", "--dry-run", "--outdir", "dist"], { cwd: app, env });
    assert.equal(built.code, 0, built.out);
    assert.match(built.out, /Total Upload/);
    assert.ok(existsSync(join(app, "dist", "entry.js")));
  });

  step("deploy refuses what works on this machine only", async () => {
    const refused = await command("deploy");
    assert.equal(refused.code, 1, refused.out);
    for (const fault of [/issuer development/, /UPSTREAM_EXAMPLE_URL/, /the id of KEYS/])
      assert.match(refused.out, fault);
    const dry = await command("deploy", "--dry-run");
    assert.equal(dry.code, 1, dry.out);
    assert.match(dry.out, /3 things are missing; deploy would refuse/);
    assert.doesNotMatch(dry.out, /WARNING/);
  });

  step("create overwrites no file", async () => {
    const readme = readFileSync(join(app, "README.md"), "utf8");
    writeFileSync(join(app, "README.md"), `${readme}changed\n`);
    const tarball = join(BUILD, "packages");
    const name = `create-portcullis-${JSON.parse(readFileSync(join(app, "node_modules", "portcullis", "package.json"), "utf8")).version}.tgz`;
    const again = await run(
      "npm",
      ["exec", "--yes", "--package", join(tarball, name), "--", "create-portcullis", "app", "--yes"],
      { cwd: dirname(app), env },
    );
    assert.equal(again.code, 1, again.out);
    assert.match(again.out, /README\.md.* would be overwritten/);
    assert.ok(readFileSync(join(app, "README.md"), "utf8").endsWith("changed\n"));
  });

  step("Ctrl-C ends the gateway, the issuer and the example service", async () => {
    dev.child.kill("SIGINT");
    const { code } = await dev.ended;
    assert.equal(code, 0, dev.out);
    for (const url of [gateway, issuer, example]) await assert.rejects(ask(url), /ECONNREFUSED/);
  });
});
