// `npm run check` and the build with an invalid policy: each mistake is reported once, as
// file:line:column, without output of cargo.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { copyFileSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { buildEdge } from "../../scripts/lib/edge-build.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { compilePolicy, preparePolicyTool } from "../../scripts/lib/policy-tool.js";
import { temporaryFolder } from "../harness/run.js";
import { runScript } from "../harness/scripts.js";
import { testScope } from "../harness/scope.js";

// The shipped policy with some text replaced.
function changed(scope, changes) {
  let text = readFileSync(join(ROOT, "gateway.toml"), "utf8");
  for (const [from, to] of changes) {
    assert.ok(text.includes(from), from);
    text = text.replace(from, to);
  }
  const file = join(temporaryFolder(scope, "check"), "gateway.toml");
  writeFileSync(file, text);
  return { file, lineOf: (words) => text.slice(0, text.indexOf(words)).split("\n").length };
}

const BROKEN = [
  ['algorithms = ["RS256"]', 'algorithms = ["RS265"]'],
  ['upstream = "users"', 'upstream = "user"'],
  ['access = "public"\nlimits = ["login"]', 'access = "public"\nlimits = ["lgoin"]'],
  ['access = { any = [{ owner = "id" }', 'acess = { any = [{ owner = "id" }'],
];

function expected({ file, lineOf }) {
  return [
    [`${file}:${lineOf('["RS265"]')}:14: `, 'did you mean "RS256"?'],
    [`${file}:${lineOf('["lgoin"]')}:10: `, 'did you mean "login"?'],
    [`${file}:${lineOf("acess")}:1: `, "did you mean `access`?"],
    [`${file}:${lineOf('upstream = "user"\n')}:12: `, 'did you mean "users"?'],
  ];
}

function assertMistakes(lines, mistakes) {
  assert.equal(lines.length, mistakes.length, lines.join("\n"));
  for (const [index, [begin, end]] of mistakes.entries()) {
    assert.ok(lines[index].startsWith(begin), `${lines[index]} does not begin with ${begin}`);
    assert.ok(lines[index].endsWith(end), `${lines[index]} does not end with ${end}`);
  }
}

for (const [how, where] of [
  ["--file", (file) => ({ args: ["--file", file] })],
  ["GATEWAY_CONFIG", (file) => ({ args: [], env: { GATEWAY_CONFIG: file } })],
]) {
  test(`check reports each mistake of a policy once, by ${how}`, async (t) => {
    const policy = changed(testScope(t), BROKEN);
    const { args, env } = where(policy.file);
    const { code, out, err } = await runScript("check", args, { env }).ended;
    assert.equal(code, 1);
    assert.equal(out, "");
    const lines = err
      .trim()
      .split("\n")
      .filter((line) => !/^\[ *[\d.]+ s\] /.test(line));
    assertMistakes(lines, expected(policy));
  });
}

test("check needs no cargo once the policy tool is built", async (t) => {
  await preparePolicyTool();
  const PATH = temporaryFolder(testScope(t), "path");
  symlinkSync(process.execPath, join(PATH, "node"));
  const { code, out, err } = await runScript("check", ["GET", "/api/v1/users/7", "--user", "7"], { env: { PATH } })
    .ended;
  assert.equal(code, 0, err);
  assert.match(out, /^yes$/m);
  assert.equal(err, "");
});

test("check with unknown arguments points to --help, and asks for a missing path", async () => {
  for (const [args, expected] of [
    [["--fast"], /"--fast" is not known; see: npm run check -- --help/],
    [["GET"], /A method and a path are needed/],
    [["--user", "7"], /A method and a path are needed/],
    [["GET", "/a", "/b"], /"\/b" is not known/],
    [["GET", "/a", "--claim", "tenant"], /--claim needs a claim as name=value/],
    [["GET", "/a", "--roles"], /--roles needs a name/],
    [["GET", "/a", "--address", "office"], /--address needs an IP address/],
    [["--country", "DE"], /A method and a path are needed/],
    [["--file"], /--file needs a value/],
  ]) {
    const { code, out, err } = await runScript("check", args).ended;
    assert.equal(code, 2, args.join(" "));
    assert.equal(out, "");
    assert.match(err, expected);
  }
});

test("the build of a worker reports each mistake of its policy once", async (t) => {
  const policy = changed(testScope(t), BROKEN);
  const out = temporaryFolder(testScope(t), "build");
  const error = await buildEdge({ out, policy: policy.file }).then(
    () => assert.fail("it was built"),
    (error) => error,
  );
  assert.match(error.message, /^The policy cannot be built/);
  assertMistakes(error.lines, expected(policy));
});

test("check shows which route wins where paths overlap", async (t) => {
  const { file } = changed(testScope(t), [
    [
      '[[routes]]\npath = "/api/v1/users"\n',
      '[[routes]]\npath = "/api/v1/users/me"\nmethods = ["GET"]\nupstream = "users"\naccess = "user"\n' +
        'issuers = ["auth-service"]\n\n[[routes]]\npath = "/api/v1/users"\n',
    ],
  ]);
  const table = await runScript("check", ["--file", file]).ended;
  assert.equal(table.code, 0, table.err);
  assert.match(table.out, /^ {2}\/api\/v1\/users\/me wins over \/api\/v1\/users\/\{id\}$/m);
  const asked = await runScript("check", ["--file", file, "GET", "/api/v1/users/me"]).ended;
  assert.match(asked.out, /\/api\/v1\/users\/me wins over \/api\/v1\/users\/\{id\}/);
});

test("check refuses a policy with a rule that a variant of its path bypasses", async (t) => {
  const looser =
    'path = "/api/v1/{*rest}"\nmethods = ["GET"]\nupstream = "users"\naccess = "user"\nissuers = ["auth-service"]\n';
  const text = readFileSync(join(ROOT, "gateway.toml"), "utf8");
  const file = join(temporaryFolder(testScope(t), "check"), "gateway.toml");
  writeFileSync(file, `${text}\n[[routes]]\n${looser}`);
  const { code, err } = await runScript("check", ["--file", file]).ended;
  assert.equal(code, 1);
  assert.match(err, /gateway\.toml:\d+:8: route "\/api\/v1\/users": .*\/api\/v1\/Users.* match the looser route/);
  assert.match(err, /route "\/api\/v1\/users\/\{id\}": .*\/api\/v1\/users\/~0\/ /);
});

test("check runs the decisions that a file next to the policy expects", async (t) => {
  const shipped = await runScript("check").ended;
  assert.equal(shipped.code, 0, shipped.err);
  const count = Number(/^gateway\.tests\.toml: (\d+) decisions are as expected\.$/m.exec(shipped.out)?.[1]);
  assert.ok(count >= 40, shipped.out);

  const folder = temporaryFolder(testScope(t), "expected");
  const [policy, tests] = ["gateway.toml", "gateway.tests.toml"].map((name) => join(folder, name));
  copyFileSync(join(ROOT, "gateway.toml"), policy);
  for (const [rows, lines] of [
    ['[[test]]\nrequest = "GET /api/v1/users/7"\nroles = ["user"]\nexpect = 403\n', []],
    [
      '[[test]]\nrequest = "GET /api/v1/users/7"\nroles = ["admin"]\nexpect = 403\n[[test]]\nrequest = "GET /"\nexpect = 200\n',
      [
        ":2:11: GET /api/v1/users/7: expected 403, but the policy decides 200 (permitted): GET /api/v1/users/7 is /api/v1/users/{id} at users; may enter: the user {id}, or role admin",
        ":6:11: GET /: expected 200, but the policy decides 404 (route_unknown): no route names /",
      ],
    ],
    [
      '[[test]]\nrequest = "GET /"\nrole = "admin"\nexpect = 404\n',
      [
        ":3:1: unknown field `role`, expected one of `request`, `expect`, `user`, `roles`, `scopes`, `claims`, `issuer`, `country`, `address`, `host`, `at`",
      ],
    ],
  ]) {
    writeFileSync(tests, rows);
    const { code, err } = await runScript("check", ["--file", policy]).ended;
    assert.equal(code, lines.length === 0 ? 0 : 1, err);
    assert.deepEqual(
      err.split("\n").filter(Boolean),
      lines.map((line) => `${tests}${line}`),
    );
  }
});

test("check and the build read the file of an issuer's keys next to the policy", async (t) => {
  const jwks_path = 'jwks_upstream = "auth"\njwks_path = "/.well-known/jwks.json"';
  const { file, lineOf } = changed(testScope(t), [
    [jwks_path, 'jwks_file = "keys/auth.json"\ntoken_header = "X-Api-Token"'],
  ]);
  const { publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const good = publicKey.export({ format: "jwk" });
  const keyFile = join(dirname(file), "keys", "auth.json");
  const writeFile = (text) => {
    rmSync(keyFile, { recursive: true, force: true });
    writeFileSync(keyFile, text);
  };
  const write = (...keys) => writeFile(JSON.stringify({ keys, d: "c2VjcmV0" }));
  const pipe = () => {
    rmSync(keyFile, { recursive: true, force: true });
    execFileSync("mkfifo", [keyFile]);
  };
  const place = `${file}:${lineOf('jwks_file = "keys/auth')}:13: issuer "auth-service": `;
  for (const [prepare, code, words] of [
    [() => {}, 1, `${place}the file of jwks_file cannot be read`],
    [() => mkdirSync(keyFile, { recursive: true }), 1, `${place}the file of jwks_file cannot be read`],
    [() => pipe(), 1, `${place}the file of jwks_file cannot be read`],
    [() => writeFile(" ".repeat(512 * 1024 + 1)), 1, `${place}jwks_file has more than 524288 bytes`],
    [
      () => write({ ...good, d: "c2VjcmV0" }),
      1,
      `${place}jwks_file has a key that cannot be used: keys[0] is a private`,
    ],
    [() => write({ kty: "oct", k: "c2VjcmV0" }), 1, "keys[0] is a private or symmetric key"],
    [() => write(good), 0, "note: tokens of auth-service are accepted from the header x-api-token only"],
    [
      () => write({ ...good, note: "c2VjcmV0" }),
      0,
      "note: the keys of auth-service are in the policy and do not expire",
    ],
  ]) {
    prepare();
    const said = await runScript("check", ["--file", file]).ended;
    assert.equal(said.code, code, said.err);
    assert.ok((said.out + said.err).includes(words), said.out + said.err);
    assert.ok(!(said.out + said.err).includes("c2VjcmV0"));
  }
  const { issuers } = JSON.parse(await compilePolicy(file));
  assert.equal(issuers["auth-service"].jwks_file, undefined);
  assert.deepEqual(JSON.parse(issuers["auth-service"].jwks), { keys: [{ ...good, alg: "RS256" }] });
});

test("check notes routes with two kinds of sources, and reads no file outside of the policy's folder", async (t) => {
  const root = temporaryFolder(testScope(t), "check");
  const folder = join(root, "policy");
  mkdirSync(folder);
  const { publicKey } = generateKeyPairSync("ed25519");
  const keys = JSON.stringify({ keys: [publicKey.export({ format: "jwk" })] });
  for (const place of [root, folder]) writeFileSync(join(place, "keys.json"), keys);
  const file = join(folder, "gateway.toml");
  const issuer = (name, more) =>
    `[issuers.${name}]\nissuer = "${name}"\naudience = ["api"]\nalgorithms = ["EdDSA"]\n${more}\n`;
  const route = (path, more) =>
    `[[routes]]\npath = "${path}"\nmethods = ["GET"]\nupstream = "app"\naccess = "user"\n${more}\n`;
  const policy = (name) =>
    [
      issuer("access", `token_header = "X-Token"\njwks_file = "${name}"`),
      issuer("own", 'jwks_url = "https://id.example/jwks"'),
      '[upstreams.app]\nurl = "https://app.example"\n',
      route("/both", ""),
      route("/access", 'issuers = ["access"]'),
      route("/own", 'issuers = ["own"]'),
    ].join("");
  for (const [name, code, words] of [
    ["keys.json", 0, "note: /both takes tokens from x-token and from Authorization"],
    ["./keys.json", 0, "note: /both takes tokens from x-token and from Authorization"],
    ["../keys.json", 1, "jwks_file must be a relative path inside the policy file's folder"],
    [join(folder, "keys.json"), 1, "jwks_file must be a relative path inside the policy file's folder"],
  ]) {
    writeFileSync(file, policy(name));
    const said = await runScript("check", ["--file", file]).ended;
    assert.equal(said.code, code, said.err);
    assert.ok((said.out + said.err).includes(words), said.out + said.err);
    assert.equal(said.out.split("and from Authorization").length, code === 0 ? 2 : 1, said.out);
  }
});

test("check lists the endpoints of events and the templates of refusals, and the build copies a template's page", async (t) => {
  const folder = temporaryFolder(testScope(t), "check");
  const file = join(folder, "gateway.toml");
  const page = "<!doctype html><p>{code}, {request_id}</p>";
  const policy = (name) => `
default_refusals = "shop"

[issuers.id]
issuer = "https://id.example"
audience = ["api"]
algorithms = ["EdDSA"]
jwks_url = "https://id.example/jwks"
logout = { audience = ["web", "app"] }
events = { audience = ["https://edge.example"] }

[upstreams.app]
url = "https://app.example"

[[routes]]
path = "/logout"
methods = ["POST"]
upstream = "app"
access = "user"
ends_session = true

[refusals.shop]
html_file = "${name}"
`;
  const pages = [
    ["refusal.html", page, 0, "note: refusals of 1 route and of no route are by the template shop"],
    ["refusal.html", page, 0, "note: id sends logout tokens for web, app to POST /_gateway/logout/id"],
    ["refusal.html", page, 0, "note: id sends security events for https://edge.example to POST /_gateway/events/id"],
    ["refusal.html", `${page}<script>`, 1, ':23:13: refusal "shop": the page of html_file: it may not have <script>'],
    ["missing.html", page, 1, "the file of html_file cannot be read"],
    ["../refusal.html", page, 1, "the file of html_file cannot be read"],
  ];
  for (const [name, text, code, words] of pages) {
    writeFileSync(file, policy(name));
    writeFileSync(join(folder, "refusal.html"), text);
    const said = await runScript("check", ["--file", file]).ended;
    assert.equal(said.code, code, said.err);
    assert.ok((said.out + said.err).includes(words), said.out + said.err);
  }
  writeFileSync(file, policy("refusal.html"));
  writeFileSync(join(folder, "refusal.html"), page);
  const { refusals } = JSON.parse(await compilePolicy(file));
  assert.deepEqual(refusals.shop, { html: page });
});
