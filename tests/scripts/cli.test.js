// The command portcullis and its package: commands, manifests, what a deployment refuses.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";

import { parse } from "smol-toml";

import { deploymentFaults } from "../../cli/lib/environments.js";
import { makeAssertionKeys } from "../../cli/lib/assertion-keys.js";
import { startDevelopmentIssuer } from "../../cli/lib/development-issuer.js";
import { secretsOf } from "../../cli/lib/policy-document.js";
import { parseVars, writeVars } from "../../cli/lib/vars.js";
import { filesOf, writeProject } from "../../create/project.js";
import { askMissing } from "../../create/questions.js";
import { PACKAGES, manifestOf } from "../../scripts/lib/packages.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";

const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");
const root = JSON.parse(read("package.json"));
const lock = JSON.parse(read("package-lock.json"));

function portcullis(args, { cwd = ROOT, input = "" } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, "cli", "bin", "portcullis.js"), ...args], {
    cwd,
    encoding: "utf8",
    input,
    env: { ...process.env, CI: "true" },
  });
  return { code: status, out: stdout, err: stderr };
}

describe("the command portcullis", () => {
  const { out: help } = portcullis(["--help"]);
  const names = [...help.matchAll(/^portcullis ([a-z]+) /gm)].map(([, name]) => name);

  test("its help lists each command", () => {
    const present = readdirSync(join(ROOT, "cli", "commands")).map((name) => name.replace(/\.js$/, ""));
    for (const name of present) assert.ok(names.includes(name), `${name} is missing in:\n${help}`);
  });

  for (const name of names) {
    test(`${name} --help shows its options`, () => {
      const { code, out } = portcullis([name, "--help"]);
      assert.equal(code, 0);
      assert.match(out, new RegExp(`^portcullis ${name}`));
      assert.doesNotMatch(out, /npm run/);
    });

    test(`${name} refuses an unknown option in one sentence`, () => {
      const { code, err } = portcullis([name, "--frob"]);
      assert.equal(code, 2, err);
      assert.match(err, new RegExp(`^portcullis: "--frob" is not known; see: portcullis ${name} --help\n$`));
    });
  }

  test("--version prints the version of the checkout", () => {
    assert.equal(portcullis(["--version"]).out, `${root.version}\n`);
  });

  test("an unknown command is refused", () => {
    const { code, err } = portcullis(["frob"]);
    assert.deepEqual([code, err], [2, 'portcullis: "frob" is not a command; see: portcullis --help\n']);
  });

  for (const name of ["dev", "push", "rollback", "deploy", "secrets"])
    test(`${name} outside of a project names the command that creates one`, (t) => {
      const { code, err } = portcullis([name], { cwd: temporaryFolder(testScope(t)) });
      assert.equal(code, 2, err);
      assert.match(err, /no wrangler\.toml here.*npm create portcullis/);
    });

  for (const name of ["dev", "push", "rollback", "deploy"])
    test(`${name} without wrangler says how to install it`, (t) => {
      const folder = temporaryFolder(testScope(t));
      writeFileSync(join(folder, "wrangler.toml"), "");
      const { code, err } = portcullis([name], { cwd: folder });
      assert.equal(code, 2, err);
      assert.match(err, /needs wrangler.*npm install --save-dev wrangler@/);
    });

  test("check of an environment needs no wrangler", (t) => {
    const folder = temporaryFolder(testScope(t));
    writeFileSync(join(folder, "wrangler.toml"), "");
    const { code, err } = portcullis(["check", "--env", "staging"], { cwd: folder });
    assert.equal(code, 2, err);
    assert.match(err, /"staging" is not in wrangler\.toml/);
  });

  test("status does not send the token over plain HTTP to another machine", () => {
    const { code, err } = portcullis(["status", "http://gateway.example.com"]);
    assert.equal(code, 2);
    assert.match(err, /must be https/);
  });
});

describe("the packages", () => {
  for (const [name, folder] of Object.entries(PACKAGES)) {
    const manifest = manifestOf(folder);

    test(`${name} has the name, the version and the licence of the checkout`, () => {
      assert.equal(manifest.name, name);
      assert.equal(JSON.parse(read(folder, "package.json")).version, root.version);
      assert.equal(manifest.license, root.license);
    });

    test(`${name} runs no script when it is installed`, () => {
      assert.equal(manifest.scripts, undefined);
    });

    test(`${name} depends on the versions that are tested here`, () => {
      for (const [dependency, range] of Object.entries({ ...manifest.dependencies, ...manifest.peerDependencies }))
        assert.equal(range, `^${lock.packages[`node_modules/${dependency}`].version}`, dependency);
    });
  }

  test("portcullis installs the runtime, and a new project wrangler, in the versions of each other", () => {
    const { dependencies, peerDependencies, peerDependenciesMeta } = manifestOf("cli");
    assert.ok("workerd" in dependencies && !("wrangler" in dependencies));
    assert.deepEqual(peerDependenciesMeta, { wrangler: { optional: true } });
    assert.equal(
      lock.packages["node_modules/wrangler"].dependencies.workerd,
      lock.packages["node_modules/workerd"].version,
    );
    const created = JSON.parse(read("create", "template", "package.json"));
    assert.equal(created.devDependencies.wrangler, peerDependencies.wrangler);
  });

  test("the Python package has the version of the checkout", () => {
    assert.equal(parse(read("packages", "assertion-python", "pyproject.toml")).project.version, root.version);
  });

  test("portcullis lists each package that its modules import", () => {
    const modules = readdirSync(join(ROOT, "cli"), { recursive: true }).filter((name) => name.endsWith(".js"));
    const imported = modules.flatMap((name) =>
      [...read("cli", name).matchAll(/(?:from|import\() ?"([^".][^"]*)"/g)].map(([, specifier]) => specifier),
    );
    const names = imported
      .filter((specifier) => !/^(?:node|cloudflare|portcullis):/.test(specifier))
      .map((specifier) =>
        specifier
          .split("/")
          .slice(0, specifier.startsWith("@") ? 2 : 1)
          .join("/"),
      );
    const { dependencies } = manifestOf("cli");
    for (const name of new Set(names)) assert.ok(name in dependencies, `${name} is no dependency`);
  });

  test("no module of portcullis imports a file outside of its package", () => {
    for (const name of readdirSync(join(ROOT, "cli"), { recursive: true }).filter((one) => one.endsWith(".js")))
      for (const [, path] of read("cli", name).matchAll(/(?:from|import\() ?"(\.[^"]*)"/g))
        assert.ok(
          !join("cli", name, "..", path).startsWith("..") && join("cli", name, "..", path).startsWith("cli"),
          `${name}: ${path}`,
        );
  });
});

// Answers for a new project with the example service and the development issuer.
const NEW = { folder: "/x/My Gateway", upstream: "", issuer: "", audience: "", version: "0.1.0" };

describe("a new project", () => {
  const options = NEW;
  const choices = {
    "the defaults": {},
    "a service": { upstream: "https://shop.example.com/" },
    "a provider": { issuer: "https://id.example.com/", audience: "shop-api" },
    both: { upstream: "https://shop.example.com", issuer: "https://id.example.com/", audience: "shop" },
  };

  for (const [what, choice] of Object.entries(choices))
    test(`with ${what} has a valid policy that decides as its tests expect`, (t) => {
      const folder = temporaryFolder(testScope(t));
      const files = filesOf({ ...options, ...choice });
      for (const [name, text] of Object.entries(files)) assert.doesNotMatch(text, /\{\{[#/\w]/, name);
      writeProject(folder, files);
      const checked = portcullis(["check"], { cwd: folder });
      assert.equal(checked.code, 0, checked.err);
      assert.match(portcullis(["test"], { cwd: folder }).out, /decisions are as expected/);
    });

  test("has the Worker's bindings of this checkout", () => {
    const [own, created] = [parse(read("wrangler.toml")), parse(filesOf(options)["wrangler.toml"])];
    for (const name of ["compatibility_date", "durable_objects", "migrations", "triggers"])
      assert.deepEqual(created[name], own[name], name);
    assert.equal(created.name, "my-gateway");
  });

  for (const [what, choice] of Object.entries({
    "an issuer that is no URL": { issuer: "id.example.com" },
    "a quote in a URL": { upstream: 'https://x.example/"' },
    "a line in an audience": { audience: "a\nb" },
    "an issuer without an audience": { issuer: "https://id.example.com/" },
    "a folder without a letter": { folder: "/x/---" },
  }))
    test(`${what} is refused`, () => {
      assert.throws(() => filesOf({ ...options, ...choice }), { name: "Error", code: 2 });
    });

  test("takes the audience api from the development issuer only", () => {
    const audiencesOf = (choice) =>
      Object.values(parse(filesOf({ ...options, ...choice })["gateway.toml"]).issuers).map(({ audience }) => audience);
    assert.deepEqual(audiencesOf({}), [["api"]]);
    assert.deepEqual(audiencesOf({ issuer: "https://id.example.com/", audience: "shop-api" }), [["shop-api"]]);
  });

  for (const [what, folder, given, replies, expected] of [
    ["asks twice for the defaults", "x", {}, ["", ""], { folder: "x", upstream: "", issuer: "", audience: "" }],
    ["asks for the folder", undefined, {}, ["", "", ""], { folder: "gateway", upstream: "", issuer: "", audience: "" }],
    [
      "asks for the audience of an issuer",
      "x",
      {},
      ["", "https://id.example.com", "shop-api"],
      { folder: "x", upstream: "", issuer: "https://id.example.com", audience: "shop-api" },
    ],
    [
      "asks for the audience of an issuer that a flag gives",
      "x",
      { upstream: "https://shop.acme.dev", issuer: "https://id.example.com" },
      ["shop-api"],
      { folder: "x", upstream: "https://shop.acme.dev", issuer: "https://id.example.com", audience: "shop-api" },
    ],
  ])
    test(what, async () => {
      const left = [...replies];
      assert.deepEqual(await askMissing(folder, given, async () => left.shift() ?? assert.fail("one more")), expected);
      assert.deepEqual(left, []);
    });

  test("is not written with an issuer and without its audience, if nothing is asked", (t) => {
    const folder = temporaryFolder(testScope(t));
    const { status, stderr } = spawnSync(
      process.execPath,
      [join(ROOT, "create", "index.js"), join(folder, "x"), "--yes", "--issuer", "https://id.example.com"],
      { encoding: "utf8" },
    );
    assert.equal(status, 2, stderr);
    assert.match(stderr, /--audience is needed with --issuer/);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("overwrites nothing, and writes nothing if a file is there", (t) => {
    const folder = temporaryFolder(testScope(t));
    writeFileSync(join(folder, "README.md"), "mine");
    assert.throws(() => writeProject(folder, filesOf(options)), /README\.md .*would be overwritten/);
    assert.deepEqual(readdirSync(folder), ["README.md"]);
  });
});

// A project whose wrangler prints its arguments.
function projectWithWrangler(scope, changes = {}) {
  const folder = temporaryFolder(scope);
  const files = filesOf({ ...NEW, ...changes });
  writeProject(folder, files);
  const wrangler = join(folder, "node_modules", "wrangler");
  mkdirSync(join(wrangler, "bin"), { recursive: true });
  writeFileSync(join(wrangler, "package.json"), '{"name":"wrangler"}');
  writeFileSync(join(wrangler, "bin", "wrangler.js"), 'console.log("wrangler", ...process.argv.slice(2));\n');
  return folder;
}

const READY = { upstream: "https://shop.acme.dev", issuer: "https://id.acme.dev", audience: "shop" };

describe("deploy", { skip: Number(process.versions.node.split(".")[0]) < 22 }, () => {
  test("--dry-run builds, then lists secrets and what is missing, and fails", (t) => {
    const folder = projectWithWrangler(testScope(t));
    const { code, out, err } = portcullis(["deploy", "--dry-run"], { cwd: folder });
    assert.equal(code, 1);
    assert.match(out, /^wrangler deploy --dry-run\n\nsecrets needed: ASSERTION_KEYS_EXAMPLE \(/);
    assert.match(err, /^the id of KEYS .*\n.*UPSTREAM_EXAMPLE_URL.*\nissuer development .*\n/);
    assert.match(err, /\nportcullis: 3 things are missing; deploy would refuse\.\n$/);
  });

  test("refuses before it builds", (t) => {
    const { code, out, err } = portcullis(["deploy"], { cwd: projectWithWrangler(testScope(t)) });
    assert.deepEqual([code, out], [1, ""]);
    assert.match(err, /The gateway is not deployed; the lines above say what to change\.\n$/);
  });

  test("accepts a project from which nothing is missing", (t) => {
    const folder = projectWithWrangler(testScope(t), READY);
    const file = join(folder, "wrangler.toml");
    writeFileSync(file, readFileSync(file, "utf8").replace("0".repeat(32), "0f2ac74b498b48028cb68387c421e279"));
    const dry = portcullis(["deploy", "--dry-run"], { cwd: folder });
    assert.deepEqual([dry.code, dry.err], [0, ""]);
    assert.match(dry.out, /secrets needed: ASSERTION_KEYS_SERVICE \(/);
    const deployed = portcullis(["deploy"], { cwd: folder });
    assert.deepEqual([deployed.code, deployed.out, deployed.err], [0, "wrangler deploy\n", ""]);
  });
});

test("explain without the issuer's keys asks whether the gateway runs", (t) => {
  const folder = temporaryFolder(testScope(t));
  const files = filesOf(NEW);
  files["gateway.toml"] = files["gateway.toml"].replaceAll("127.0.0.1:8788", "127.0.0.1:1");
  writeProject(folder, files);
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const time = Math.floor(Date.now() / 1000);
  const claims = { iss: "http://127.0.0.1:1", aud: "api", sub: "ada", roles: ["user"], iat: time, exp: time + 60 };
  const input = remember(`${part({ alg: "ES256", typ: "at+jwt", kid: "k" })}.${part(claims)}.${"A".repeat(86)}`);
  const { code, out, err } = portcullis(["explain", "--token", "-", "GET", "/hello/ada"], { cwd: folder, input });
  assert.equal(code, 1, err);
  assert.match(out, /Refused: 503 keys_unavailable/);
  assert.match(err, /keys could not be fetched.*npx portcullis dev/);
});

test("routes names the command that wrote them", (t) => {
  const folder = temporaryFolder(testScope(t));
  writeProject(folder, filesOf(NEW));
  writeFileSync(
    join(folder, "openapi.yaml"),
    'openapi: 3.0.3\ninfo: { title: a, version: "1" }\npaths:\n  /a:\n    get: { responses: { "200": { description: a } } }\n',
  );
  const args = ["routes", "openapi.yaml", "--upstream", "example", "--default-access", "user"];
  const { out, err } = portcullis(args, { cwd: folder });
  assert.match(out, /^# --- begin: routes of example from openapi\.yaml: written by portcullis routes, sha256 /, err);
});

test("the development issuer names the settings of a port that is taken", async (t) => {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const keyFile = join(temporaryFolder(testScope(t)), "key.json");
  await assert.rejects(
    startDevelopmentIssuer({
      ...{ issuer: { issuer: `http://127.0.0.1:${server.address().port}` }, keyFile, example: () => "" },
    }),
    /is taken; .* change the port in the policy \(issuer and jwks_url of \[issuers\.development\]\)/,
  );
  remember(JSON.parse(readFileSync(keyFile, "utf8")).d);
});

test("the development issuer refuses to listen on any address but loopback", async (t) => {
  const keyFile = join(temporaryFolder(testScope(t)), "key.json");
  for (const issuer of ["http://0.0.0.0:0", "http://192.0.2.1:80", "https://127.0.0.1:443", "http://login.example.com"])
    await assert.rejects(
      startDevelopmentIssuer({ issuer: { issuer }, keyFile, example: () => "" }),
      /loopback only/,
      issuer,
    );
});

test("the development issuer keeps its key in a file that its owner alone can read", async (t) => {
  const keyFile = join(temporaryFolder(testScope(t)), "key.json");
  const start = async () => {
    const server = await startDevelopmentIssuer({
      issuer: { issuer: "http://127.0.0.1:0" },
      keyFile,
      example: () => "",
    });
    server.close();
    remember(JSON.parse(readFileSync(keyFile, "utf8")).d);
    return readFileSync(keyFile, "utf8");
  };
  assert.equal(await start(), await start());
  assert.equal(statSync(keyFile).mode & 0o777, 0o600);
});

const SOUND = {
  policy: {
    issuers: { users: { issuer: "https://id.example.com" } },
    upstreams: { shop: { url: "https://shop.acme.dev" }, near: { binding: "NEAR" } },
  },
  wrangler: { kv_namespaces: [{ binding: "KEYS", id: "0f2ac74b498b48028cb68387c421e279" }], vars: {} },
};

test("a deployment with public URLs and ids has no fault", () => {
  assert.deepEqual(deploymentFaults(SOUND.wrangler, undefined, SOUND.policy), []);
});

for (const [what, change, fault] of [
  [
    "the development issuer",
    { policy: { issuers: { development: { issuer: "https://id.example.com" } } } },
    /issuer development/,
  ],
  ["an issuer on loopback", { policy: { issuers: { users: { issuer: "http://localhost:1" } } } }, /issuer users/],
  [
    "keys on loopback",
    { policy: { issuers: { users: { issuer: "https://id.example.com", jwks_url: "http://127.0.0.1:1/keys" } } } },
    /jwks_url of issuer users/,
  ],
  ["a limit that is not bound", { policy: { limits: { "per-user": {} } } }, /ratelimits lacks LIMIT_PER_USER/],
  ["an upstream on loopback", { policy: { upstreams: { shop: { url: "http://127.0.0.1:9" } } } }, /UPSTREAM_SHOP_URL/],
  [
    "a target on loopback",
    { policy: { upstreams: { shop: { targets: [{ url: "http://[::1]:9" }] } } } },
    /upstream shop/,
  ],
  ["a variable on loopback", { wrangler: { vars: { UPSTREAM_SHOP_URL: "http://127.0.0.1:9" } } }, /upstream shop/],
  [
    "a zero id",
    { wrangler: { kv_namespaces: [{ binding: "KEYS", id: "00000000000000000000000000000000" }] } },
    /the id of KEYS is a placeholder/,
  ],
  ["no id", { wrangler: { kv_namespaces: [{ binding: "KEYS" }] } }, /the id of KEYS is a placeholder/],
  ["plain HTTP", { wrangler: { vars: { UPSTREAM_SHOP_URL: "http://shop.acme.dev" } } }, /upstream shop is not https/],
  ["development settings", { wrangler: { vars: { DEVELOPMENT: "true" } } }, /DEVELOPMENT/],
])
  test(`a deployment with ${what} is refused`, () => {
    const [policy, wrangler] = [
      { ...SOUND.policy, ...change.policy },
      { ...SOUND.wrangler, ...change.wrangler },
    ];
    const faults = deploymentFaults(wrangler, undefined, policy);
    assert.equal(faults.length, 1, faults.join("\n"));
    assert.match(faults[0], fault);
  });

test("a deployment to an unknown environment is refused", () => {
  assert.throws(() => deploymentFaults(SOUND.wrangler, "staging", SOUND.policy), /"staging" is not in wrangler\.toml/);
});

test("the secrets of a policy are those of its upstreams, of events with a header and of introspection", () => {
  const policy = {
    issuers: {
      users: { issuer: "x", events: { authorization: true } },
      others: { issuer: "y", events: {} },
      opaque: { issuer: "z", introspection: { url: "https://id.acme.dev/introspect" } },
    },
    upstreams: { "my-shop": { url: "x" }, near: { binding: "NEAR", assertion: { algorithm: "EdDSA" } } },
  };
  assert.deepEqual(secretsOf(policy), [
    { name: "ASSERTION_KEYS_MY_SHOP", algorithm: "HS256" },
    { name: "ASSERTION_KEYS_NEAR", algorithm: "EdDSA" },
    { name: "EVENTS_AUTHORIZATION_USERS" },
    { name: "INTROSPECTION_SECRET_OPAQUE" },
  ]);
});

test("keys of assertions have the form that their algorithm needs", () => {
  assert.match(remember(makeAssertionKeys("HS256")), /^k1:[\w-]{43}$/);
  for (const [algorithm, kty] of [
    ["ES256", "EC"],
    ["EdDSA", "OKP"],
  ]) {
    const { keys } = JSON.parse(makeAssertionKeys(algorithm));
    assert.deepEqual([keys.length, keys[0].kty, typeof keys[0].d], [1, kty, "string"]);
    remember(keys[0].d);
  }
});

test("local secrets are read as they were written, also by Node's --env-file", (t) => {
  const file = join(temporaryFolder(testScope(t)), ".dev.vars");
  const vars = { DEVELOPMENT: "true", ONE: remember(makeAssertionKeys("HS256")), TWO: makeAssertionKeys("ES256") };
  remember(JSON.parse(vars.TWO).keys[0].d);
  writeVars(file, vars, "Secrets.");
  assert.deepEqual(parseVars(readFileSync(file, "utf8")), vars);
  const script = "console.log(JSON.stringify([process.env.ONE, process.env.TWO]))";
  const { stdout } = spawnSync(process.execPath, [`--env-file=${file}`, "-e", script], { encoding: "utf8" });
  assert.deepEqual(JSON.parse(stdout), [vars.ONE, vars.TWO]);
});
