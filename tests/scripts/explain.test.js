// `npm run explain`: the checks of a token and the decision about a request, with the tokens of
// tests/vectors.

import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { SignJWT } from "jose";

import { ROOT } from "../../scripts/lib/paths.js";
import { readPolicyFile } from "../../cli/lib/policy-tool.js";
import { openPolicyTool } from "../../scripts/lib/policy-tool.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { runScript } from "../harness/scripts.js";

const { now, jwks, cases } = JSON.parse(readFileSync(join(ROOT, "tests", "vectors", "tokens.json"), "utf8"));
const POLICY = join(ROOT, "gateway.toml");
const keys = JSON.stringify(jwks);
const tokenOf = (name) => cases.find((one) => one.name === name).token;
const GOOD = tokenOf("a good token");

const signatureOf = (token) => token.slice(token.lastIndexOf(".") + 1);

describe("explain", () => {
  let explain;

  before(async () => {
    const run = await openPolicyTool();
    const policy = readPolicyFile(POLICY);
    explain = (token, more = {}) => {
      const output = run({ command: { explain: { token, now_ms: now * 1000, keys, ...more } }, policy });
      assert.deepEqual(output.errors, []);
      return output;
    };
  });

  test("accepts and refuses every vector as the gateway does, and never prints a signature", () => {
    for (const { name, token, expected } of cases) {
      const { code, out } = explain(token);
      assert.equal(code, expected === "ok" ? 0 : 1, `${name}\n${out}`);
      const verdict = expected === "ok" ? "The token is accepted." : `The token is refused: 401 ${expected}`;
      assert.ok(out.includes(`\n${verdict}`), `${name}\n${out}`);
      const signature = signatureOf(token);
      if (signature.length >= 8) assert.ok(!out.includes(signature), name);
    }
  });

  test("lists every check in order, and goes on after one that fails", () => {
    const order = [
      ...["size", "form", "header", "payload", "signature form", "issuer", "algorithm", "type", "key", "signature"],
      ...["dates", "lifetime", "expiry", "start", "audience", "token_type", "requirements", "identity"],
    ];
    for (const [more, failed] of [
      [{}, []],
      [{ now_ms: (now + 86_400) * 1000 }, ["expiry"]],
      [{ now_ms: (now - 3600) * 1000 }, ["start"]],
    ]) {
      const { out } = explain(GOOD, more);
      const listed = [...out.matchAll(/^ {2}(pass|FAIL|-) +((?:signature form|\S)+)/gm)];
      assert.deepEqual(
        listed.map(([, , name]) => name),
        order,
      );
      assert.deepEqual(
        listed.filter(([, mark]) => mark === "FAIL").map(([, , name]) => name),
        failed,
        out,
      );
    }
  });

  test("says what each check compared", () => {
    for (const [token, more, words] of [
      [GOOD, {}, /pass {2}issuer +iss "auth-service" is issuer auth-service$/m],
      [GOOD, {}, /pass {2}algorithm +alg "RS256"; accepted: RS256$/m],
      [GOOD, {}, /pass {2}audience +aud \["api"\]; accepted: api$/m],
      [
        GOOD,
        { now_ms: (now + 86_400) * 1000 },
        /FAIL {2}expiry +expired \d+ s ago; leeway 30 s {2}\[token_expired\]$/m,
      ],
      [GOOD, { keys: undefined, keys_fault: "it is down" }, /- {5}signature +not checked: it is down$/m],
      [GOOD, { keys: undefined, keys_fault: "it is down" }, /^The signature could not be checked: it is down\.$/m],
      [GOOD, { keys: '{"keys":[]}' }, /- {5}key +not checked: the key set is refused: jwks_no_usable_key$/m],
      ["a.b", {}, /FAIL {2}form .*\[token_malformed\]$/m],
    ]) {
      assert.match(explain(token, more).out, words);
    }
  });

  test("says what the policy decides about a request with the token", () => {
    const { sub } = JSON.parse(Buffer.from(GOOD.split(".")[1], "base64url").toString());
    for (const [request, more, code, words] of [
      [["GET", `/api/v1/users/${sub}`], {}, 0, /may enter: the user \{id\}, or role admin\nPermitted\.$/],
      [["GET", "/api/v1/users/someone-else"], {}, 1, /\nRefused: 403 rights_missing/],
      [["GET", "/api/v1/auth/me"], { now_ms: (now + 86_400) * 1000 }, 1, /\nRefused: 401 token_expired$/],
      [["GET", "/api/v1/auth/me"], { keys: undefined }, 1, /\nRefused: 503 keys_unavailable$/],
      [["GET", "/nowhere"], {}, 1, /\nRefused: 404 route_unknown/],
      [["PUT", "/api/v1/auth/me"], {}, 1, /\nRefused: 405 method_not_allowed/],
      [["POST", "/api/v1/auth/login"], { now_ms: (now + 86_400) * 1000 }, 0, /\nPermitted\.$/],
    ]) {
      const said = explain(GOOD, { ...more, request });
      assert.equal(said.code, code, said.out);
      assert.match(said.out, words);
    }
  });
});

// Runs the script with a token on standard input.
const pipe = (token, args, env) => runScript("explain", ["--token", "-", ...args], { env, input: `${token}\n` }).ended;

test("explain reads the token from standard input and fetches the issuer's live keys", async (t) => {
  const server = createServer((_request, response) => response.end(keys));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const at = ["--at", String(now)];
  const live = `http://127.0.0.1:${server.address().port}`;
  for (const [token, url, code, words] of [
    [GOOD, live, 0, /The token is accepted/],
    [GOOD, "http://127.0.0.1:1", 1, /not checked: http:\/\/127\.0\.0\.1:1\/\.well-known\/jwks\.json cannot be fetched/],
    [GOOD, "http://192.0.2.1", 1, /is not fetched: it must be https:\/\/, or http:\/\/ on loopback/],
    ["nonsense", live, 1, /token_malformed/],
  ]) {
    const said = await pipe(token, at, { UPSTREAM_AUTH_URL: url });
    assert.equal(said.code, code, said.err);
    assert.match(said.out, words);
    assert.ok(!(said.out + said.err).includes(signatureOf(GOOD)));
  }
});

test("explain takes a key set from a file, and a time", async (t) => {
  const file = join(temporaryFolder(t, "keys"), "jwks.json");
  writeFileSync(file, keys);
  for (const [at, code] of [
    [String(now), 0],
    [new Date(now * 1000).toISOString(), 0],
    [String(now + 86_400), 1],
  ]) {
    const said = await pipe(GOOD, ["--keys", file, "--at", at, "GET", "/api/v1/auth/me"]);
    assert.equal(said.code, code, said.err);
  }
});

test("explain uses the keys of the policy, and names the header of the token", async (t) => {
  const folder = temporaryFolder(t, "policy");
  const file = join(folder, "gateway.toml");
  const usable = jwks.keys.filter(({ kid }) => kid === JSON.parse(Buffer.from(GOOD.split(".")[0], "base64url")).kid);
  writeFileSync(join(folder, "keys.json"), JSON.stringify({ keys: usable }));
  const text = readFileSync(POLICY, "utf8");
  const place = /jwks_upstream = "auth"\njwks_path = .*/;
  assert.match(text, place);
  writeFileSync(file, text.replace(place, 'jwks_file = "keys.json"\ntoken_header = "X-Api-Token"'));
  const said = await pipe(GOOD, ["--file", file, "--at", String(now)]);
  assert.equal(said.code, 0, said.err);
  assert.match(said.out, /issuer auth-service, accepted from the header x-api-token only$/m);
  assert.match(said.out, /pass {2}key +kid .* in the policy's key set$/m);
  const given = join(folder, "others.json");
  writeFileSync(given, JSON.stringify(jwks));
  const other = await pipe(GOOD, ["--file", file, "--at", String(now), "--keys", given]);
  assert.match(other.out, /pass {2}key +kid .* in the issuer's key set$/m);
});

test("explain says that a logout token is no access token", async (t) => {
  const folder = temporaryFolder(t, "policy");
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const [header, payload] = GOOD.split(".").map((part) => Buffer.from(part, "base64url").toString());
  const claims = { ...JSON.parse(payload), events: { "http://schemas.openid.net/event/backchannel-logout": {} } };
  const { alg, typ } = JSON.parse(header);
  const token = remember(await new SignJWT(claims).setProtectedHeader({ alg, typ, kid: "own" }).sign(privateKey));
  const given = join(folder, "keys.json");
  writeFileSync(given, JSON.stringify({ keys: [{ ...publicKey.export({ format: "jwk" }), kid: "own", alg }] }));
  const said = await pipe(token, ["--at", String(now), "--keys", given]);
  assert.equal(said.code, 1, said.err);
  assert.match(said.out, /FAIL {2}token_type +events makes it a logout token .* \[token_type_invalid\]$/m);
  assert.match(said.out, /The token is refused: 401 token_type_invalid/);
});

test("explain checks the form of an API key, and does not show it", async (t) => {
  const file = join(temporaryFolder(t, "policy"), "gateway.toml");
  const issuer = '[issuers.partners]\nissuer = "keys"\napi_keys = { prefix = "pck", from = "auth-service" }\n';
  writeFileSync(file, readFileSync(POLICY, "utf8") + issuer);
  const key = "pck_000102030405060708090a0b0c0d0e0f10111213be8e0deb";
  for (const [text, request, code, expected] of [
    [key, [], 0, /pass {2}checksum/],
    [key, ["GET", "/api/v1/auth/me"], 1, /No decision about the request/],
    [`${key}0`, [], 1, /FAIL {2}checksum .*\[token_malformed\]\n\nThe token is refused: 401 token_malformed/],
  ]) {
    const said = await pipe(text, ["--file", file, ...request]);
    assert.deepEqual([said.code, said.err], [code, ""], said.out);
    assert.match(said.out, /pass {2}prefix +pck_ is issuer partners$/m);
    assert.match(said.out, expected);
    assert.ok(!said.out.includes(key.slice(4)));
  }
});

test("explain knows where a request comes from and which host it is for", async (t) => {
  const folder = temporaryFolder(t, "policy");
  const file = join(folder, "gateway.toml");
  const jwksFile = join(folder, "jwks.json");
  writeFileSync(jwksFile, keys);
  const rule = '{ all = [{ country = ["DE"] }, { network = ["192.0.2.0/24"] }] }';
  const route = `[[routes]]\npath = "/here"\nmethods = ["GET"]\nupstream = "users"\naccess = ${rule}\n`;
  writeFileSync(file, `${readFileSync(POLICY, "utf8")}\n${route}`);
  const at = ["--file", file, "--keys", jwksFile, "--at", String(now)];
  for (const [where, code, words] of [
    [
      ["--country", "DE", "--address", "192.0.2.7"],
      0,
      /may enter: country DE, and network 192\.0\.2\.0\/24\nPermitted/,
    ],
    [["--country", "DE", "--address", "::ffff:192.0.2.7", "--host", "a.example"], 0, /\nPermitted/],
    [["--country", "US", "--address", "192.0.2.7"], 1, /\nRefused: 403 rights_missing/],
    [[], 1, /\nRefused: 403 rights_missing/],
  ]) {
    const said = await pipe(GOOD, [...at, ...where, "GET", "/here"]);
    assert.match(said.out, words, said.err);
    assert.equal(said.code, code);
  }
});

test("explain says what is wrong with its arguments", async () => {
  for (const [args, expected] of [
    [[], /--token is needed; --token - reads standard input; see: npm run explain -- --help/],
    [["--token", ""], /--token needs a value/],
    [["--token", "x", "GET"], /A request is a method and a path/],
    [["--token", "x", "--at", "noon"], /--at must be seconds since 1970 or a time/],
    [["--token", "x", "--keys", "package.json"], /package\.json is not a key set/],
    [["--token", "x", "--keys", "nowhere.json"], /nowhere\.json cannot be read \(ENOENT\)/],
    [["--token", "x", "--frob"], /"--frob" is not known/],
  ]) {
    const { code, out, err } = await runScript("explain", args).ended;
    assert.equal(code, 2, args.join(" "));
    assert.equal(out, "");
    assert.match(err, expected);
  }
  const { code, out } = await runScript("explain", ["--help"]).ended;
  assert.equal(code, 0);
  assert.match(out, /--token - .*--keys FILE.*--at TIME/s);
});
