// The parts of `portcullis serve` that need no runtime. tests/edge/serve.test.js has the command.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { BlockList, isIPv6 } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";

import { readArguments } from "../../cli/lib/arguments.js";
import { readPolicyOf, writePolicy } from "../../cli/lib/worker.js";
import { servingFaults } from "../../cli/serve/serving-faults.js";
import { OPTIONS, readProject, readSettings, readVariables } from "../../cli/serve/settings.js";
import { takeLock } from "../../cli/serve/state-lock.js";
import { clientOf, parseAddress, parseNetwork } from "../../cli/serve/workers/client-address.js";
import { createCounter } from "../../cli/serve/workers/counter.js";

function folder(t) {
  const path = mkdtempSync(join(tmpdir(), "portcullis-serve-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

const networks = (...texts) => texts.map((text) => parseNetwork(text));
const PROXIES = ["10.0.0.0/8", "2001:db8:1::/48"];

describe("the client's address", () => {
  const cases = [
    ["the peer's own", "192.0.2.1:4711", null, "192.0.2.1", false],
    ["the peer's own, on a socket for both families", "[::ffff:192.0.2.1]:4711", null, "192.0.2.1", false],
    ["the peer's own in IPv6", "[2001:db8::7]:4711", null, "2001:db8:0:0:0:0:0:7", false],
    ["what an untrusted peer says", "192.0.2.1:4711", "198.51.100.1", "192.0.2.1", false],
    ["that of a proxy's peer", "10.1.2.3:4711", "198.51.100.1", "198.51.100.1", true],
    [
      "that of a proxy's peer on a socket for both families",
      "[::ffff:10.1.2.3]:1",
      "198.51.100.1",
      "198.51.100.1",
      true,
    ],
    ["what the client invented before its proxy", "10.1.2.3:1", "127.0.0.1, 198.51.100.1", "198.51.100.1", true],
    ["two proxies", "10.1.2.3:1", "198.51.100.1, 10.9.9.9", "198.51.100.1", true],
    ["proxies of both families", "[2001:db8:1::5]:1", "198.51.100.1, 10.9.9.9", "198.51.100.1", true],
    ["a proxy's own request", "10.1.2.3:1", null, "10.1.2.3", true],
    ["an empty header", "10.1.2.3:1", "", "10.1.2.3", true],
    ["proxies alone", "10.1.2.3:1", "10.0.0.1, 10.0.0.2", "10.0.0.1", true],
    ["text before a proxy", "10.1.2.3:1", "198.51.100.1, unknown, 10.0.0.2", "10.0.0.2", true],
    ["text alone", "10.1.2.3:1", "localhost", "10.1.2.3", true],
    ["an address with a port", "10.1.2.3:1", "198.51.100.1:9000", "198.51.100.1", true],
    ["an IPv6 address with a port", "10.1.2.3:1", "[2001:db8::9]:9000", "2001:db8:0:0:0:0:0:9", true],
    ["a mapped address", "10.1.2.3:1", "::ffff:198.51.100.1", "198.51.100.1", true],
    ["more proxies than there can be", "10.1.2.3:1", `198.51.100.1${", 10.0.0.1".repeat(20)}`, "10.0.0.1", true],
    ["none of a peer without an address", undefined, "198.51.100.1", undefined, false],
    ["none of a peer without an address and header", undefined, null, undefined, false],
    ["a peer that cannot be read", "peer", "198.51.100.1", undefined, false],
  ];
  for (const [name, peer, header, address, isTrusted] of cases) {
    test(`is found: ${name}`, () => {
      assert.deepEqual(clientOf(peer, header, networks(...PROXIES)), { address, isTrusted });
    });
  }

  test("without proxies is always the peer's", () => {
    assert.deepEqual(clientOf("127.0.0.1:1", "198.51.100.1", []), { address: "127.0.0.1", isTrusted: false });
  });

  test("is in a network as node:net decides", () => {
    const texts = ["10.0.0.0/8", "192.0.2.128/25", "203.0.113.7", "2001:db8::/33", "fd00::/9", "::1", "0.0.0.0/32"];
    const addresses = ["9.255.255.255", "10.0.0.0", "10.255.255.255", "11.0.0.0", "192.0.2.127", "192.0.2.128"];
    addresses.push(
      "203.0.113.7",
      "203.0.113.8",
      "2001:db8:7fff::1",
      "2001:db8:8000::",
      "fd7f::1",
      "fd80::",
      "::1",
      "::2",
    );
    addresses.push("0.0.0.0", "0.0.0.1");
    for (const text of texts) {
      const judge = new BlockList();
      const [host, bits] = text.split("/");
      const family = (one) => (isIPv6(one) ? "ipv6" : "ipv4");
      if (bits === undefined) judge.addAddress(host, family(host));
      else judge.addSubnet(host, Number(bits), family(host));
      for (const address of addresses) {
        const { isTrusted } = clientOf(isIPv6(address) ? `[${address}]:1` : `${address}:1`, null, networks(text));
        assert.equal(isTrusted, judge.check(address, family(address)), `${address} in ${text}`);
      }
    }
  });

  for (const text of [
    "",
    "10.0.0.256",
    "10.0.0",
    "10.0.0.0/33",
    "10.0.0.0/8/8",
    "::/129",
    "1::2::3",
    "g::",
    "::1%eth0",
  ]) {
    test(`${JSON.stringify(text)} is no network`, () => assert.equal(parseNetwork(text), undefined));
  }

  test("in IPv6 has every short form", () => {
    const groups = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];
    for (const text of ["2001:db8::1", "2001:DB8:0:0::1", "2001:0db8:0:0:0:0:0:1", "2001:db8::0.0.0.1"])
      assert.deepEqual(parseAddress(text), groups, text);
  });
});

describe("the rate limits", () => {
  const limit = { limit: 2, periodMs: 1000 };

  test("count each key in its window", () => {
    const { isWithin } = createCounter();
    const seen = [0, 10, 20, 1000].map((now) => isWithin("a", limit, now));
    assert.deepEqual([...seen, isWithin("b", limit, 30)], [true, true, false, true, true]);
  });

  test("forget the oldest key when there is no room", () => {
    const counter = createCounter({ maxKeys: 2 });
    for (const key of ["a", "a", "b", "c"]) counter.isWithin(key, limit, 0);
    assert.equal(counter.size(), 2);
    assert.deepEqual(
      ["c", "a"].map((key) => counter.isWithin(key, { ...limit, limit: 1 }, 0)),
      [false, true],
    );
  });
});

describe("the settings", () => {
  const read = (...args) =>
    readSettings(readArguments(args, { command: "portcullis serve", options: OPTIONS }).values, {
      policy: "gateway.toml",
    });
  test("come from wrangler.toml, the environment and files, in this order", (t) => {
    const secrets = folder(t);
    writeFileSync(join(secrets, "METRICS_TOKEN"), "of the file\n", { mode: 0o600 });
    writeFileSync(join(secrets, "..data"), "not a name");
    const settings = read("--secrets", secrets);
    const project = readProject(settings.project);
    assert.deepEqual(project.limits.LIMIT_LOGIN, { limit: 100, period: 60 });
    const given = {
      METRICS_TOKEN: "of the environment",
      LIVE_POLICY: "false",
      KEYS: "x",
      LIMIT_LOGIN: "x",
      lower: "x",
    };
    const { env, names } = readVariables(settings, project, { ...given, DEVELOPMENT: "true" });
    assert.deepEqual([env.METRICS_TOKEN, env.LIVE_POLICY, env.DEVELOPMENT], ["of the file", "false", "false"]);
    assert.deepEqual(names.sort(), ["DEVELOPMENT", "LIVE_POLICY", "METRICS_TOKEN"]);
    assert.equal(readVariables(settings, project, {}).env.LIVE_POLICY, "true");
  });

  test("need no wrangler.toml, but one that was there at the start", (t) => {
    const place = folder(t);
    const [policy, project] = ["gateway.toml", "wrangler.toml"].map((name) => join(place, name));
    writeFileSync(policy, "");
    const { project: none } = read("--policy", policy);
    assert.deepEqual(readProject(none).limits, {});
    writeFileSync(project, '[[ratelimits]]\nname = "LIMIT_A"\nsimple = { limit = 1, period = 10 }\n');
    assert.deepEqual(readProject(none).limits, { LIMIT_A: { limit: 1, period: 10 } });
    const { project: needed } = read("--policy", policy);
    rmSync(project);
    assert.throws(() => readProject(needed), /wrangler\.toml cannot be read \(ENOENT\)/);
  });

  test("refuse a secret that other users can read", (t) => {
    const secrets = folder(t);
    const file = join(secrets, "METRICS_TOKEN");
    writeFileSync(file, "secret", { mode: 0o600 });
    chmodSync(file, 0o644);
    const settings = read("--secrets", secrets);
    assert.throws(
      () => readVariables(settings, readProject(settings.project), {}),
      /can be read or changed by other users/,
    );
  });

  for (const [name, args, said] of [
    ["an address without a port", ["--listen", "127.0.0.1"], /needs an IP address and a port/],
    ["a name in place of an address", ["--listen", "localhost:80"], /needs an IP address and a port/],
    ["a port that is none", ["--listen", "127.0.0.1:99999"], /needs an IP address and a port/],
    ["a proxy that is no network", ["--trusted-proxy", "proxy.example.com"], /needs an IP address or a network/],
    ["no processes", ["--processes", "0"], /must be a whole number/],
    ["a certificate without its key", ["--tls-cert", "package.json"], /go together/],
    ["a file that is not there", ["--ca", "none.pem"], /there is no none.pem/],
  ]) {
    test(`refuse ${name}`, () => assert.throws(() => read(...args), said));
  }
});

describe("a policy", () => {
  const PROVIDER = { issuer: "https://id.example.com", jwks_url: "https://id.example.com/keys" };
  const SETTINGS = {
    project: { file: "/etc/portcullis/wrangler.toml", isOptional: false },
    limits: { LIMIT_LOGIN: { limit: 1, period: 10 } },
    development: false,
    listen: { host: "127.0.0.1", port: 8787 },
  };

  test("with bound limits and an issuer of users is served", () => {
    const policy = { issuers: { users: PROVIDER }, limits: { login: {} } };
    assert.deepEqual(servingFaults(policy, { ...SETTINGS, listen: { host: "::", port: 443 } }), []);
    assert.deepEqual(servingFaults({}, SETTINGS), []);
  });

  test("with a limit that wrangler.toml does not have is refused", () => {
    const policy = { limits: { login: {}, "per-user": {} } };
    const expected = ["/etc/portcullis/wrangler.toml: ratelimits lacks LIMIT_PER_USER, which the policy needs"];
    assert.deepEqual(servingFaults(policy, SETTINGS), expected);
    assert.deepEqual(servingFaults(policy, { ...SETTINGS, development: true }), expected);
  });

  for (const [name, issuer] of [
    ["development", PROVIDER],
    ["users", { issuer: "http://127.0.0.1:8788" }],
    ["users", { issuer: "http://localhost:8788/" }],
    ["users", { ...PROVIDER, jwks_url: "http://127.0.0.1:8788/jwks.json" }],
    ["users", { ...PROVIDER, jwks_url: "http://[::1]:8788/jwks.json" }],
  ]) {
    const shown = JSON.stringify({ [name]: issuer });
    test(`with the issuer ${shown} is refused, but in development on loopback`, () => {
      const faultsWith = (settings) => servingFaults({ issuers: { [name]: issuer } }, { ...SETTINGS, ...settings });
      const refusing = [
        {},
        ...["0.0.0.0", "::", "192.0.2.1", "2001:db8::1"].map((host) => ({
          development: true,
          listen: { host, port: 1 },
        })),
      ];
      for (const settings of refusing) {
        const faults = faultsWith(settings);
        assert.equal(faults.length, 1, JSON.stringify(settings));
        assert.match(faults[0], new RegExp(`issuer ${name} .*; --development allows it at a loopback address`));
      }
      for (const host of ["127.0.0.1", "127.0.0.9", "::1"])
        assert.deepEqual(faultsWith({ development: true, listen: { host, port: 1 } }), []);
    });
  }

  test("of a built Worker is read from its module", (t) => {
    const worker = folder(t);
    const policy = { limits: { 'a"b\u2028': {} } };
    writePolicy(worker, { document: JSON.stringify(policy), validators: new Map(), lines: {} });
    assert.deepEqual(readPolicyOf(worker), policy);
    writeFileSync(join(worker, "policy.js"), "export const other = 1;\n");
    assert.throws(() => readPolicyOf(worker), /holds no policy/);
  });
});

describe("the lock of a state folder", () => {
  test("is held by one process at a time, and released by kill -9", async (t) => {
    const state = folder(t);
    const lock = new URL("../../cli/serve/state-lock.js", import.meta.url);
    const script = `import { takeLock } from "${lock}";
      globalThis.lock = await takeLock(${JSON.stringify(state)});
      console.log("held");
      setInterval(() => {}, 60_000);`;
    const other = spawn(process.execPath, ["--input-type=module", "-e", script], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    t.after(() => other.kill("SIGKILL"));
    await once(other.stdout, "data");
    assert.equal(await takeLock(state), undefined);
    other.kill("SIGKILL");
    await once(other, "exit");
    const own = await takeLock(state);
    assert.ok(own !== undefined);
    assert.equal(await takeLock(state), undefined);
    own.release();
    (await takeLock(state)).release();
  });

  test("is refused with a reason if its file is not usable", async (t) => {
    const state = folder(t);
    writeFileSync(join(state, "lock"), "no database of SQLite");
    await assert.rejects(takeLock(state), /lock cannot be locked \(file is not a database\)/);
  });
});
