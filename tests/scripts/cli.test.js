// The command portcullis and its package: commands, manifests, what a deployment refuses.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { parse } from "smol-toml";

import { deploymentFaults } from "../../cli/lib/environments.js";
import { makeAssertionKeys } from "../../cli/lib/assertion-keys.js";
import { startDevelopmentIssuer } from "../../cli/lib/development-issuer.js";
import { secretsOf } from "../../cli/lib/policy-document.js";
import { filesOf, writeProject } from "../../create/project.js";
import { PACKAGES, manifestOf } from "../../scripts/lib/packages.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";

const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");
const root = JSON.parse(read("package.json"));
const lock = JSON.parse(read("package-lock.json"));

function portcullis(args, { cwd = ROOT } = {}) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, "cli", "bin", "portcullis.js"), ...args], {
    cwd,
    encoding: "utf8",
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

describe("a new project", () => {
  const options = { folder: "/x/My Gateway", upstream: "", issuer: "", audience: "api", version: "0.1.0" };
  const choices = {
    "the defaults": {},
    "a service": { upstream: "https://shop.example.com/" },
    "a provider": { issuer: "https://id.example.com/" },
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
    "a folder without a letter": { folder: "/x/---" },
  }))
    test(`${what} is refused`, () => {
      assert.throws(() => filesOf({ ...options, ...choice }), { name: "Error", code: 2 });
    });

  test("overwrites nothing, and writes nothing if a file is there", (t) => {
    const folder = temporaryFolder(testScope(t));
    writeFileSync(join(folder, "README.md"), "mine");
    assert.throws(() => writeProject(folder, filesOf(options)), /README\.md .*would be overwritten/);
    assert.deepEqual(readdirSync(folder), ["README.md"]);
  });
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

test("the secrets of a policy are those of its upstreams and of events with a header", () => {
  const policy = {
    issuers: { users: { issuer: "x", events: { authorization: true } }, others: { issuer: "y", events: {} } },
    upstreams: { "my-shop": { url: "x" }, near: { binding: "NEAR", assertion: { algorithm: "EdDSA" } } },
  };
  assert.deepEqual(secretsOf(policy), [
    { name: "ASSERTION_KEYS_MY_SHOP", algorithm: "HS256" },
    { name: "ASSERTION_KEYS_NEAR", algorithm: "EdDSA" },
    { name: "EVENTS_AUTHORIZATION_USERS" },
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
