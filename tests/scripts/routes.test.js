// `npm run routes`: the routes of an OpenAPI document, hostile documents, and what `npm run check` reports of differences.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";

import { parse } from "smol-toml";

import { ORIGIN, ROOT } from "../../scripts/lib/paths.js";
import { PolicyError } from "../../cli/lib/policy-tool.js";
import { compilePolicy } from "../../scripts/lib/policy-tool.js";
import { quote } from "../../cli/lib/route-block.js";
import { compileOrigin } from "../../scripts/lib/setup.js";
import { temporaryFolder } from "../harness/run.js";
import { runScript } from "../harness/scripts.js";
import { testScope } from "../harness/scope.js";

const POLICY = `# The shop.
[issuers.id]
issuer = "https://id.example.com/"
audience = ["api"]
algorithms = ["RS256"]
jwks_url = "https://id.example.com/jwks"

[upstreams.shop]
url = "https://shop.example.com"

[[routes]]
path = "/by-hand"
methods = ["GET"]
upstream = "shop"
access = "user" # a comment without a line break at its end`;

const SCHEMES = `components:
  securitySchemes:
    id: { type: openIdConnect, openIdConnectUrl: "https://id.example.com/.well-known/openid-configuration" }
    oauth: { type: oauth2, flows: { clientCredentials: { tokenUrl: "https://id.example.com/token", scopes: {} } } }
    token: { type: http, scheme: Bearer }
    key: { type: apiKey, in: header, name: x-key }
    basic: { type: http, scheme: basic }
    certificate: { type: mutualTLS }
    same: { $ref: "#/components/securitySchemes/id" }
`;

const HEAD = `openapi: 3.1.0\ninfo: { title: Shop, version: "1" }\n`;

const responses = "responses: { 200: { description: ok } }";

/** One operation with more members. */
const get = (more = "security: []") => `get: { ${more}, ${responses} }`;

// A policy and a document in a folder of their own.
function folderWith(scope, { document, policy = POLICY, name = "shop.yaml" }) {
  const folder = temporaryFolder(scope, "routes");
  const [file, place] = [join(folder, "gateway.toml"), join(folder, name)];
  writeFileSync(file, policy);
  writeFileSync(place, document);
  const run = (...args) => runScript("routes", [place, "--upstream", "shop", "--file", file, ...args]).ended;
  const check = () => runScript("check", ["--file", file]).ended;
  return { folder, file, document: place, run, check, text: () => readFileSync(file, "utf8") };
}

// smol-toml makes objects without a prototype.
const readToml = (text) => JSON.parse(JSON.stringify(parse(text)));

async function routesOf(scope, document, ...args) {
  const { code, out, err } = await folderWith(scope, { document }).run(...args);
  assert.equal(code, 0, err);
  return { routes: readToml(out).routes, out, err };
}

const SHOP = `${HEAD}servers: [{ url: "https://{host}.example.com/v1/", variables: { host: { default: shop } } }]
security: [{ id: [] }]
${SCHEMES}paths:
  /orders:
    get: { operationId: listOrders, security: [{ id: [orders:read] }], ${responses} }
    head: { operationId: headOrders, security: [{ oauth: [orders:read] }], ${responses} }
    post: { operationId: makeOrder, security: [{ id: [orders:read, orders:write] }], ${responses} }
  /orders/{order-id}:
    get: { operationId: readOrder, ${responses} }
    delete: { operationId: dropOrder, security: [{ same: [admin] }, { oauth: [orders:write] }], ${responses} }
  /machines:
    get: { security: [{ key: [] }, { id: [machine] }], ${responses} }
    put: { security: [{ id: [machine], token: [operator] }, { id: [root] }], ${responses} }
  /open:
    get: { security: [], ${responses} }
    post: { security: [{}, { id: [] }], ${responses} }
  /: { $ref: "#/components/pathItems/root" }
`.replace("components:\n", `components:\n  pathItems: { root: { ${get()} } }\n`);

const MAPPED = [
  ["/v1/orders", ["GET", "HEAD"], { scopes: ["orders:read"] }],
  ["/v1/orders", ["POST"], { all: [{ scopes: ["orders:read"] }, { scopes: ["orders:write"] }] }],
  ["/v1/orders/{order_id}", ["GET"], "user"],
  ["/v1/orders/{order_id}", ["DELETE"], { scopes: ["admin", "orders:write"] }],
  ["/v1/machines", ["GET"], { scopes: ["machine"] }],
  [
    "/v1/machines",
    ["PUT"],
    { any: [{ scopes: ["root"] }, { all: [{ scopes: ["machine"] }, { roles: ["operator"] }] }] },
  ],
  ["/v1/open", ["GET", "POST"], "public"],
  ["/v1", ["GET"], "public"],
].map(([path, methods, access]) => ({ path, methods, upstream: "shop", access }));

describe("routes", () => {
  test("maps paths, methods and security to routes, in YAML and in JSON", async (t) => {
    const scope = testScope(t);
    const { routes, out, err } = await routesOf(scope, SHOP);
    assert.deepEqual(routes, MAPPED);
    assert.match(out, /\n# operations: listOrders, headOrders\n\[\[routes\]\]\npath = "\/v1\/orders"\n/);
    assert.match(err, /gateway\.toml is valid with 8 routes for 10 operations\. --write writes them\./);
    const { parse: parseYaml } = await import("yaml");
    const json = folderWith(scope, { document: JSON.stringify(parseYaml(SHOP), null, 2), name: "shop.json" });
    assert.deepEqual(readToml((await json.run()).out).routes, MAPPED);
  });

  test("takes prefixes and issuers from its options", async (t) => {
    const options = ["--prefix", "/v2", "--strip-prefix", "/shop", "--issuers", "id", "--exclude", "/machines,/open"];
    const { routes } = await routesOf(testScope(t), SHOP, ...options);
    assert.deepEqual(
      routes.map(({ path, issuers, strip_prefix }) => [path, issuers?.join(), strip_prefix]),
      [
        ["/shop/v2/orders", "id", "/shop"],
        ["/shop/v2/orders", "id", "/shop"],
        ["/shop/v2/orders/{order_id}", "id", "/shop"],
        ["/shop/v2/orders/{order_id}", "id", "/shop"],
        ["/shop/v2", undefined, "/shop"],
      ],
    );
  });

  test("guesses no rule where the document states none", async (t) => {
    const document = `${HEAD}${SCHEMES}paths:\n  /a: { ${get("operationId: a")} }\n  /b: { ${get()} }\n`;
    const { code, out, err } = await folderWith(testScope(t), { document }).run();
    assert.equal(code, 1);
    assert.equal(out, "");
    assert.match(err, /shop\.yaml:13:9: GET \/a has no security\n/);
    assert.match(err, /--default-access user .* or --default-access public\.$/m);
    for (const [rule, access] of [
      ["user", "user"],
      ["public", "public"],
    ]) {
      const { routes } = await routesOf(testScope(t), document, "--default-access", rule);
      assert.deepEqual([routes[0].access, routes[1].access], [access, "public"]);
    }
  });

  test("leaves out on request what the gateway does not check", async (t) => {
    const paths = ["key", "basic", "certificate"].map(
      (name) => `  /${name}: { ${get(`security: [{ ${name}: [] }]`)} }\n`,
    );
    const document = `${HEAD}${SCHEMES}paths:\n${paths.join("")}  /b: { ${get()} }\n`;
    const { run } = folderWith(testScope(t), { document });
    const refused = await run();
    assert.equal(refused.code, 1);
    assert.equal(refused.out, "");
    for (const scheme of ["key (apiKey)", "basic (http basic)", "certificate (mutualTLS)"])
      assert.ok(refused.err.includes(`wants ${scheme}, which the gateway does not check`), refused.err);
    const { code, out } = await run("--skip");
    assert.equal(code, 0);
    assert.deepEqual(
      parse(out).routes.map(({ path }) => path),
      ["/b"],
    );
    assert.match(out, /\n# Line 13 has no route: GET \/key wants key/);
  });

  test("shows what the check says about the policy with the routes, and writes no invalid policy", async (t) => {
    const document = `${HEAD}${SCHEMES}paths:\n  /Health: { ${get()} }\n  /health: { ${get("security: [{ id: [a] }]")} }\n`;
    const { run, text } = folderWith(testScope(t), { document });
    const shown = await run();
    assert.equal(shown.code, 1);
    assert.match(shown.err, /^routes:\d+:8: route "\/health": it is one of the gateway's own paths/m);
    const line = Number(/^routes:(\d+):8/m.exec(shown.err)[1]);
    assert.equal(shown.out.split("\n")[line - 1], 'path = "/health"');
    const written = await run("--write");
    assert.equal(written.code, 1);
    assert.match(written.err, /nothing was written/);
    assert.equal(text(), POLICY);
  });

  test("writes between markers and changes no other line", async (t) => {
    const scope = testScope(t);
    const { run, file, text, document } = folderWith(scope, { document: SHOP });
    chmodSync(file, 0o600);
    assert.equal((await run("--write")).code, 0);
    const first = text();
    assert.ok(first.startsWith(`${POLICY}\n\n# --- begin: routes of shop from shop.yaml: `), first);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const again = await run("--write");
    assert.match(again.err, /has these routes already/);
    assert.equal(text(), first);

    // Lines before and after stay as they are; a route by hand takes precedence.
    const byHand =
      '\n[[routes]]\npath = "/v1/orders/{id}"\nmethods = ["GET"]\nupstream = "shop"\naccess = { roles = ["x"] }\n';
    writeFileSync(file, `${first}${byHand}`);
    writeFileSync(document, SHOP.replace("/machines:", "/engines:"));
    const next = await run("--write");
    assert.equal(next.code, 0, next.err);
    assert.ok(text().startsWith(`${POLICY}\n\n`) && text().endsWith(byHand), text());
    const routes = parse(text()).routes.map(({ path, methods }) => `${methods} ${path}`);
    assert.ok(routes.includes("GET /v1/engines") && !routes.includes("GET /v1/machines"));
    assert.ok(!routes.includes("GET /v1/orders/{order_id}") && routes.includes("GET /v1/orders/{id}"));
    assert.match(text(), /\n# A route outside of this block takes GET \/v1\/orders\/\{order_id\}\n/);

    const changed = text().replace('path = "/v1/engines"', 'path = "/v1/motors"');
    writeFileSync(file, changed);
    const refused = await run("--write");
    assert.equal(refused.code, 1);
    assert.match(refused.err, /gateway\.toml:\d+: the routes of shop were changed by hand/);
    writeFileSync(file, changed.replace("# --- end: routes of shop\n", ""));
    assert.match((await run("--write")).err, /must have the lines .* once each/);
  });

  test("follows a symbolic link to the policy", async (t) => {
    const { folder, file, document } = folderWith(testScope(t), { document: SHOP });
    const link = join(folder, "link.toml");
    symlinkSync(file, link);
    const { code } = await runScript("routes", [document, "--upstream", "shop", "--file", link, "--write"]).ended;
    assert.equal(code, 0);
    assert.match(readFileSync(file, "utf8"), /begin: routes of shop/);
  });

  test("arguments that are missing or wrong are refused", async () => {
    for (const [args, expected] of [
      [[], /The file of an OpenAPI document is needed/],
      [["a.yaml"], /--upstream needs the name of one upstream/],
      [["a.yaml", "--upstream", "A"], /--upstream needs names of/],
      [["a.yaml", "--upstream", "a,b"], /--upstream needs the name of one upstream/],
      [["a.yaml", "--upstream", 'a"\nb'], /--upstream needs names of/],
      [["a.yaml", "--upstream", "a", "--issuers", 'x"]'], /--issuers needs names of/],
      [["a.yaml", "--upstream", "a", "--strip-prefix", '/a"b'], /--strip-prefix must be one or more fixed segments/],
      [["a.yaml", "--upstream", "a", "--prefix", "/../b"], /--prefix must be one or more fixed segments/],
      [["a.yaml", "--upstream", "a", "--default-access", "admin"], /--default-access must be user or public/],
      [["a.yaml", "b.yaml"], /"b\.yaml" is not known; see: npm run routes -- --help/],
    ]) {
      const { code, out, err } = await runScript("routes", args).ended;
      assert.equal(code, 2, args.join(" "));
      assert.equal(out, "");
      assert.match(err, expected);
    }
  });
});

const bomb = Array.from({ length: 9 }, (_, i) => `x-${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`)}]\n`).join("");
const BAD_TEXT = String.raw`x\u001b[31m\"]\n[[routes]]\npath = '/y'\u2028\u202e\ud800 # \x00`;

describe("a hostile document", () => {
  for (const [name, document, expected] of [
    [
      "that is too large",
      `${HEAD}paths: {}\n#${"x".repeat(16 * 1024 * 1024)}`,
      /:1:1: the document has more than \d+ bytes/,
    ],
    ["with a bomb of aliases", `${HEAD}x-0: &a0 [x]\n${bomb}paths: {}\n`, /the document has too many aliases/],
    [
      "with wide aliases",
      `${HEAD}x: &a [${"x,".repeat(50_000)}]\ny: [${Array(99).fill("*a")}]\n`,
      /more than 2000000 values/,
    ],
    ["with an alias within itself", `${HEAD}x-a: &a [*a]\npaths: {}\n`, /nests too deeply/],
    ["that nests deeply in brackets", `${HEAD}x-a: ${"[".repeat(100_000)}`, /nests too deeply/],
    [
      "that nests deeply in JSON",
      `{"openapi":"3.1.0","x":${'{"a":'.repeat(9_000)}1${"}".repeat(9_000)}}`,
      /nests too deeply/,
    ],
    [
      "with __proto__ as a path",
      `${HEAD}paths: { __proto__: { ${get()} } }\n`,
      /:3:10: no member can be named __proto__/,
    ],
    [
      "with __proto__ in a schema",
      `${HEAD}components: { schemas: { __proto__: {} } }\n`,
      /no member can be named __proto__/,
    ],
    ["with a member twice", `${HEAD}paths:\n  /a: { ${get()} }\n  /a: {}\n`, /:5:3: the member \/a is there twice/],
    ["with a tag of code", `${HEAD}x-a: !!js/function "x"\npaths: {}\n`, /:3:6: Unresolved tag/],
    ["with types of YAML 1.1", `%YAML 1.1\n---\n${HEAD}x-a: !!binary aGk=\npaths: {}\n`, /Unresolved tag/],
    ["of several documents", `${HEAD}paths: {}\n---\na: 1\n`, /the file has several documents/],
    ["that is not UTF-8", Buffer.from([0x6f, 0xff, 0xfe]), /the document is not UTF-8/],
    ["that is no OpenAPI", "- 1\n", /the document is no object/],
    ["of Swagger 2.0", 'swagger: "2.0"\n', /:1:1: this is Swagger 2\.0; convert it/],
    ["of another version", HEAD.replace("3.1.0", "4.0.0"), /openapi must be a version 3\.0 or 3\.1/],
    [
      "that is no valid OpenAPI",
      `${HEAD}paths: { /a: { get: { responses: 3 } } }\n`,
      /:3:23: \/paths\/~1a\/get\/responses must be object/,
    ],
    [
      "with a path behind a file",
      `${HEAD}paths: { /a: { $ref: "file:///etc/passwd" } }\n`,
      /:3:16: .* other files and URLs are not read/,
    ],
    [
      "with a schema above it",
      `${HEAD}components: { schemas: { x: { $ref: "../x.yaml" } } }\n`,
      /other files and URLs are not read/,
    ],
    [
      "with a circle of paths",
      `${HEAD}paths: { /a: { $ref: "#/paths/~1b" }, /b: { $ref: "#/paths/~1a" } }\n`,
      /form a circle/,
    ],
    [
      "with a path in what objects inherit",
      `${HEAD}paths: { /a: { $ref: "#/constructor/prototype" } }\n`,
      /leads to nothing/,
    ],
    ["with a rest of the path", `${HEAD}paths: { "/{*rest}": { ${get()} } }\n`, /\{\*rest\} is no name of a parameter/],
    [
      "with a part of a segment",
      `${HEAD}paths: { "/{name}.json": { ${get()} } }\n`,
      /a parameter must be a whole segment/,
    ],
    ["with dots", `${HEAD}paths: { "/%2e%2e/a": { ${get()} } }\n`, /a segment of a route has letters/],
    [
      "with TOML in a path",
      `${HEAD}paths: { "/a\\"\\n[[routes]]": { ${get()} } }\n`,
      /a segment of a route has letters/,
    ],
    [
      "with TOML in a scope",
      `${HEAD}${SCHEMES}paths: { /a: { ${get(`security: [{ id: ["x\\"] }"] }]`)} } }\n`,
      /is no scope/,
    ],
    [
      "with roles of a bearer scheme in 3.0",
      `${HEAD.replace("3.1.0", "3.0.3")}${SCHEMES.replace(/ {4}certificate.*\n/, "")}paths: { /a: { ${get("security: [{ token: [admin] }]")} } }\n`,
      /bearer tokens have no scopes in OpenAPI 3\.0/,
    ],
    [
      "with a scheme that every object has",
      `${HEAD}paths: { /a: { ${get("security: [{ toString: [] }]")} } }\n`,
      /no security scheme is named toString/,
    ],
    [
      "with equal paths",
      `${HEAD}paths: { "/{a}": { ${get()} }, "/{b}": { ${get()} } }\n`,
      /names of parameters make no difference/,
    ],
    [
      "with servers of different paths",
      `${HEAD}servers: [{ url: /v1 }, { url: /v2 }]\npaths: { /a: { ${get()} } }\n`,
      /different paths \(\/v1, \/v2\); --prefix/,
    ],
    [
      "with a server of another scheme",
      `${HEAD}servers: [{ url: "javascript:x" }]\npaths: { /a: { ${get()} } }\n`,
      /has no known path/,
    ],
  ]) {
    test(`${name} is refused with its place`, async (t) => {
      const { run, text } = folderWith(testScope(t), { document });
      const { code, out, err } = await run("--write", "--default-access", "public");
      assert.equal(code, 1, err);
      assert.equal(out, "");
      assert.match(err, expected);
      assert.match(err, /shop\.yaml:\d+:\d+: /);
      assert.doesNotMatch(err, /\n {4}at |TypeError|RangeError/);
      assert.equal(text(), POLICY);
    });
  }

  test("writes no TOML by its texts", async (t) => {
    const document = `${HEAD}${SCHEMES}paths:
  /a: { ${get(`operationId: "${BAD_TEXT}", security: [{ token: ["x\\"] }\\\\"] }]`)} }
  "/{x}.y": { ${get(`operationId: "${BAD_TEXT}"`)} }\n`;
    const { run, text } = folderWith(testScope(t), { document, name: 'shop\n[[routes]]".yaml' });
    const { code, err } = await run("--write", "--skip");
    assert.equal(code, 0, err);
    const { routes } = readToml(text());
    const generated = { path: "/a", methods: ["GET"], upstream: "shop", access: { roles: ['x"] }\\'] } };
    assert.deepEqual(routes, [readToml(POLICY).routes[0], generated]);
    const lines = text().slice(POLICY.length);
    assert.doesNotMatch(lines, /[^\n\x20-\x7e…]/u);
    assert.match(lines, /^# operations: x \[31m"\] \[\[routes\]\] path = '\/y'/m);
  });

  test("cannot end the block of its upstream", async (t) => {
    const document = `${HEAD}paths:\n  /a: { ${get('operationId: "--- end: routes of shop", security: []')} }\n`;
    const { run, text } = folderWith(testScope(t), { document });
    for (let round = 0; round < 2; round += 1) assert.equal((await run("--write")).code, 0);
    assert.equal(text().split("\n# --- end: routes of shop\n").length, 2);
  });

  test("cannot end a quoted text", () => {
    for (const text of ['"', "\\", '\\"', "\n", "\r\n", "\0", "\x7f", "\u2028", "é", "😀", '"""', "'", "#", "\\u0022"])
      assert.equal(parse(`a = ${quote(text)}\nb = 1`).a, text, JSON.stringify(text));
    assert.equal(parse(`a = ${quote("\ud800")}`).a, "\ufffd");
  });

  test("causes no request and no reading of another file", async (t) => {
    let count = 0;
    const server = createServer((_, response) => {
      count += 1;
      response.end("{}");
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
    t.after(() => server.close());
    const url = `http://127.0.0.1:${server.address().port}/x.yaml`;
    const pipe = join(temporaryFolder(testScope(t), "routes"), "pipe.yaml");
    execFileSync("mkfifo", [pipe]);
    for (const document of [
      `${HEAD}paths: { /a: { $ref: "${url}" } }\n`,
      `${HEAD}components: { schemas: { x: { $ref: "${url}#/x" } } }\npaths: { /a: { ${get()} } }\n`,
      `${HEAD}jsonSchemaDialect: "${url}"\nexternalDocs: { url: "${url}" }\npaths: { /a: { ${get()} } }\n`,
      `${HEAD}components: { schemas: { x: { $schema: "${url}", $id: "${url}" } } }\npaths: { /a: { ${get()} } }\n`,
      `${HEAD}components: { securitySchemes: { o: { type: openIdConnect, openIdConnectUrl: "${url}" } } }\npaths: { /a: { ${get("security: [{ o: [] }]")} } }\n`,
      `${HEAD}paths: { /a: { $ref: "${pipe}" } }\n`,
    ])
      await folderWith(testScope(t), { document }).run();
    for (const file of [url, pipe]) {
      const { code, err } = await runScript("routes", [file, "--upstream", "shop"]).ended;
      assert.equal(code, 1);
      assert.match(err, /the document cannot be read/);
    }
    assert.equal(count, 0);
  });
});

describe("check", () => {
  const named = (more = "") => POLICY.replace("\n\n[[routes]]", `\nopenapi = "shop.yaml"${more}\n\n[[routes]]`);
  const route = (path, methods, access, more = "") =>
    `\n\n[[routes]]\npath = "${path}"\nmethods = ${JSON.stringify(methods)}\nupstream = "shop"\naccess = ${access}\n${more}`;
  const DOCUMENT = `${HEAD}${SCHEMES}paths:
  /orders:
    get: { security: [{ id: [orders:read] }], ${responses} }
    post: { security: [{ id: [] }], ${responses} }
  /orders/{id}:
    get: { security: [{ id: [orders:read] }], ${responses} }
  /orders/new:
    get: { security: [], ${responses} }
`;

  for (const [name, routes, errors, notes] of [
    [
      "a public route of an operation with a rule",
      route("/orders", ["POST"], '"public"'),
      [/:22:10: POST \/orders lets in anybody, but .*shop\.yaml:15 wants any user for POST \/orders$/],
    ],
    [
      "a missing scope",
      route("/orders", ["GET"], '"user"'),
      [/:22:10: GET \/orders lets in any user, but .*shop\.yaml:14 wants scope orders:read/],
    ],
    [
      "one more alternative",
      route("/orders", ["GET"], '{ any = [{ scopes = ["orders:read"] }, { roles = ["admin"] }] }'),
      [/lets in scope orders:read, or role admin, but/],
    ],
    [
      "a wider scope",
      route("/orders", ["GET"], '{ scopes = ["orders:read", "x"] }'),
      [/lets in scope orders:read or x, but/],
    ],
    [
      "a rest of the path",
      route("/orders/{*rest}", ["GET"], '"public"'),
      [/GET \/orders\/\{\*rest\} lets in anybody, but .*:17 wants/],
    ],
    [
      "a path of the document behind a prefix",
      route("/shop/orders/{x}", ["GET"], '"user"', 'strip_prefix = "/shop"'),
      [/GET \/shop\/orders\/\{x\} lets in any user, but/],
    ],
    [
      "a fixed path within a path of the document",
      route("/orders/7", ["GET"], '"public"'),
      [/GET \/orders\/7 lets in anybody, but .* for GET \/orders\/\{id\}/],
    ],
    [
      "a stricter route",
      route("/orders", ["GET"], '{ all = [{ scopes = ["orders:read"] }, { roles = ["x"] }] }'),
      [],
      [/shop\.yaml:15:5: POST \/orders has no route; its path takes GET, HEAD/],
    ],
    [
      "a route that the document calls public",
      route("/orders/new", ["GET"], '"user"'),
      [],
      [/GET \/orders\/new lets in any user, but is public in .*shop\.yaml:19/],
    ],
    [
      "the document's precedence",
      route("/orders/new", ["GET"], '"public"'),
      [],
      [/shop\.yaml:17:5: GET \/orders\/\{id\} has no route to shop/],
    ],
    [
      "other methods",
      route("/orders", ["GET", "DELETE"], '{ scopes = ["orders:read"] }'),
      [],
      [/:19:8: DELETE \/orders is no operation of/],
    ],
    [
      "a validated route that is no operation",
      route("/orders", ["GET", "DELETE"], '{ scopes = ["orders:read"] }', "validate = true"),
      [/:\d+:\d+: DELETE \/orders is no operation of .*, so validate would refuse every request/],
    ],
    [
      "a route without an operation",
      "",
      [],
      [/:13:8: GET \/by-hand is no operation of/, /:14:5: GET \/orders has no route to shop/],
    ],
  ]) {
    test(`compares the document with ${name}`, async (t) => {
      const { check, file } = folderWith(testScope(t), { document: DOCUMENT, policy: `${named()}${routes}` });
      const { code, out, err } = await check();
      assert.equal(code, errors.length === 0 ? 0 : 1, err);
      const lines = err.trim().split("\n").filter(Boolean);
      assert.equal(lines.length, errors.length, err);
      for (const [index, error] of errors.entries()) assert.match(lines[index], error);
      for (const note of notes ?? []) assert.match(out, new RegExp(`^note: .*${note.source}`, "m"));
      // What the check refuses is neither built nor pushed.
      if (errors.length > 0) return assert.rejects(compilePolicy(file), PolicyError);
      const { upstreams } = JSON.parse(await compilePolicy(file));
      return assert.deepEqual(upstreams, { shop: { url: "https://shop.example.com" } });
    });
  }

  test("refuses public routes of operations that can be no routes of their own", async (t) => {
    const document = `${HEAD}${SCHEMES}paths:
  /key: { get: { security: [{ key: [] }], ${responses} } }
  /files/{name}.json: { get: { security: [{ id: [] }], ${responses} } }
  /files/{name}: { get: { security: [], ${responses} } }
  /twins/{a}: { get: { security: [], ${responses} } }
  /twins/{b}: { get: { security: [{ key: [] }], ${responses} } }
`;
    for (const [path, expected] of [
      ["/key", /GET \/key lets in anybody, but .*:13 wants any user/],
      ["/files/{file}", /GET \/files\/\{file\} lets in anybody, but .*:14 wants any user/],
      ["/files/{*rest}", /lets in anybody, but .*:14 wants any user/],
      ["/twins/{x}", /lets in anybody, but .*:17 wants any user/],
      ["/files/a.json", undefined],
    ]) {
      for (const access of ["public", "user"]) {
        const policy = `${named()}${route(path, ["GET"], `"${access}"`)}`;
        const { code, out, err } = await folderWith(testScope(t), { document, policy }).check();
        const isRefused = access === "public" && expected !== undefined;
        assert.equal(code, isRefused ? 1 : 0, `${path} ${access}\n${err}`);
        if (isRefused) assert.match(err, expected);
        else assert.match(out, /note: .*:14:\d+: .*a parameter must be a whole segment/);
      }
    }
  });

  test("shows what is not checked, however much else there is to note", async (t) => {
    const many = Array.from({ length: 150 }, (_, at) => `  /x${at}: { ${get()} }\n`).join("");
    const parameters = "parameters: [{ in: query, name: filter, style: deepObject, schema: { type: object } }]";
    const document = `${HEAD}paths:\n${many}  /last: { ${get(`${parameters}, security: []`)} }\n`;
    const policy = `${named()}${route("/last", ["GET"], '"public"', "validate = true")}`;
    const { code, out, err } = await folderWith(testScope(t), { document, policy }).check();
    assert.equal(code, 0, err);
    assert.match(out, /^note: .*the query parameter filter is not checked: it is an object$/m);
    assert.match(out, /… and 50 more/);
  });

  test("reports no difference for the routes that were written", async (t) => {
    const options = ["--strip-prefix", "/shop", "--write"];
    for (const [more, prefix] of [
      ["", []],
      ['\nopenapi_prefix = "/v2"', ["--prefix", "/v2"]],
      ['\nopenapi_prefix = "/"', ["--prefix", "/"]],
    ]) {
      const { run, check } = folderWith(testScope(t), { document: SHOP, policy: named(more) });
      const written = await run(...options, ...prefix);
      assert.equal(written.code, 0, written.err);
      const { code, out } = await check();
      assert.equal(code, 0);
      assert.equal(out.match(/^note: .*shop\.yaml/gm).length, 1, out);
      assert.match(out, /GET \/by-hand is no operation of/);
    }
  });

  test("reports a document that cannot be used, or that is outside of the policy's folder", async (t) => {
    const { folder, file, document, check } = folderWith(testScope(t), { document: "a: [", policy: named() });
    const line = "gateway.toml:10:11";
    for (const [prepare, expected] of [
      [() => {}, [`${line}: the document of openapi cannot be used:`, "shop.yaml:1:5: "]],
      [
        () => writeFileSync(document, `${HEAD}x: 1\n`),
        [line, "shop.yaml:1:1: the document must have required property 'paths'"],
      ],
      [() => execFileSync("rm", [document]), [line, "shop.yaml:1:1: the document cannot be read"]],
      [() => mkdirSync(document), [line, "the document cannot be read"]],
      [
        () => writeFileSync(file, named().replace("shop.yaml", "../shop.yaml")),
        [`${line}: upstream "shop": openapi must be a relative path inside`],
      ],
      [
        () => writeFileSync(file, named().replace("shop.yaml", join(folder, "x.yaml"))),
        ["openapi must be a relative path inside"],
      ],
      [
        () => writeFileSync(file, named().replace("shop.yaml", "https://x.example/a.yaml")),
        ["openapi must be a relative path inside"],
      ],
      [
        () => writeFileSync(file, named().replace('openapi = "shop.yaml"', 'openapi_prefix = "v1"')),
        ["openapi_prefix is one or more", "openapi_prefix needs openapi"],
      ],
    ]) {
      prepare();
      const { code, err } = await check();
      assert.equal(code, 1);
      for (const words of expected) assert.ok(err.includes(words), `${words}\n${err}`);
    }
  });

  test("finds no looser route in the shipped policy than in the services' own documents", async (t) => {
    if (!process.env.TEST_BUILT) await compileOrigin();
    const folder = temporaryFolder(testScope(t), "routes");
    let policy = readFileSync(join(ROOT, "gateway.toml"), "utf8");
    for (const service of ["auth", "users"]) {
      writeFileSync(join(folder, `${service}.json`), execFileSync(ORIGIN, ["openapi", service]));
      policy = policy.replace(`[upstreams.${service}]\n`, (table) => `${table}openapi = "${service}.json"\n`);
    }
    writeFileSync(join(folder, "gateway.toml"), policy);
    const { code, out, err } = await runScript("check", ["--file", join(folder, "gateway.toml")]).ended;
    assert.equal(code, 0, err);
    const gaps = out.match(/^note: .* (?:has no route|is no operation)/gm);
    for (const gap of gaps)
      assert.match(gap, /\/api\/v1\/internal\/|\/api\/v1\/auth\/(?:token|introspect)|\/(?:health|ready|metrics) /, gap);
    // A rule that is looser than its operation's.
    writeFileSync(
      join(folder, "gateway.toml"),
      policy.replace(
        /(path = "\/api\/v1\/auth\/users\/\{id\}\/permissions"[^[]*\["GET"\][^[]*?)access = .*\nissuers = .*\n/,
        '$1access = "public"\n',
      ),
    );
    const looser = await runScript("check", ["--file", join(folder, "gateway.toml")]).ended;
    assert.equal(looser.code, 1);
    assert.match(
      looser.err,
      /GET \/api\/v1\/auth\/users\/\{id\}\/permissions lets in anybody, but .*auth\.json:\d+ wants any user/,
    );
  });
});
