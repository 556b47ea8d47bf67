// gateway.schema.json as an editor applies it: what the checker accepts is valid, and typing errors are marked.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { Ajv2020 } from "ajv/dist/2020.js";
import { parse } from "smol-toml";

import { ROOT } from "../../scripts/lib/paths.js";

const read = (name) => readFileSync(join(ROOT, name), "utf8");
const validate = new Ajv2020({ allErrors: true, allowUnionTypes: true, strictRequired: false }).compile(
  JSON.parse(read("gateway.schema.json")),
);

const SOUND = `[issuers.id]
issuer = "https://id.example.com/"
audience = ["api"]
algorithms = ["RS256"]
jwks_url = "https://id.example.com/jwks"

[upstreams.shop]
url = "https://shop.example.com"

[[routes]]
path = "/items/{id}"
methods = ["GET"]
upstream = "shop"
access = "user"
`;

function isValid(text) {
  return validate(parse(text));
}

test("the shipped policy is valid, and names its schema", () => {
  const text = read("gateway.toml");
  assert.ok(isValid(text), JSON.stringify(validate.errors));
  assert.match(text, /^#:schema \.\/gateway\.schema\.json\n/);
});

test("the shipped policy is valid with the examples of its comments", () => {
  const text = read("gateway.toml")
    .replace(
      /^# (claims = .*|require = .*|\[cors\.app\]|origins = .*|credentials = .*|headers = .*|expose = .*)$/gm,
      "$1",
    )
    .replace(/^# (max_age_s|body_timeout_ms|max_concurrent|retries|breaker)/gm, "$1");
  assert.match(text, /^\[cors\.app\]$/m);
  assert.match(text, /^claims = /m);
  assert.ok(isValid(text), JSON.stringify(validate.errors));
});

for (const access of [
  '"public"',
  '"user"',
  '{ roles = ["a", "b"] }',
  '{ scopes = ["a"] }',
  '{ owner = "id" }',
  '{ claim = "tenant" }',
  '{ claim = ["org", "id"], equals = 7 }',
  '{ claim = "plan", one_of = ["a", true] }',
  '{ claim = "tenant", equals_path = "id" }',
  '{ claim = ["org", "id"], equals_host = "{tenant}.api.example.com" }',
  '{ country = ["DE", "FR"] }',
  '{ network = ["192.0.2.0/24", "2001:db8::/32"] }',
  "{ max_age = 300 }",
  '{ acr = ["urn:example:mfa"] }',
  '{ any = [{ owner = "id" }, { all = ["user", { roles = ["x"] }] }] }',
]) {
  test(`access = ${access} is valid`, () => {
    assert.ok(isValid(SOUND.replace('"user"', access)), JSON.stringify(validate.errors));
  });
}

for (const keys of ['jwks = { keys = [{ kty = "OKP" }] }', "jwks = '{\"keys\":[]}'", 'jwks_file = "keys.json"']) {
  test(`${keys} with a token header is valid`, () => {
    const text = SOUND.replace('jwks_url = "https://id.example.com/jwks"', `token_header = "X-Token"\n${keys}`);
    assert.ok(isValid(text), JSON.stringify(validate.errors));
  });
}

test("a resource with a public URL is valid", () => {
  const text = `public_url = "https://api.example.com"\n${SOUND}[[resources]]\nscopes_supported = ["items:read"]\n`;
  assert.ok(isValid(text), JSON.stringify(validate.errors));
});

for (const [what, from, to] of [
  ["a misspelt key", "access =", "acess ="],
  ["a misspelt table", "[[routes]]", "[[route]]"],
  ["a route without an access rule", 'access = "user"', ""],
  ["an unknown access", '"user"', '"everyone"'],
  ["an unknown access key", '"user"', '{ role = ["x"] }'],
  ["two rules in one table", '"user"', '{ roles = ["x"], owner = "id" }'],
  ["public inside any", '"user"', '{ any = ["public"] }'],
  ["no roles", '"user"', "{ roles = [] }"],
  ["both equals and one_of", '"user"', '{ claim = "a", equals = 1, one_of = [1] }'],
  ["a country in lower case", '"user"', '{ country = ["de"] }'],
  ["a country that is none", '"user"', '{ country = ["XX"] }'],
  ["no network", '"user"', "{ network = [] }"],
  ["an age of nothing", '"user"', "{ max_age = 0 }"],
  ["an acr with a blank", '"user"', '{ acr = ["a b"] }'],
  ["a claim of the path with a value", '"user"', '{ claim = "a", equals_path = "id", equals = 1 }'],
  ["a host without a placeholder", '"user"', '{ claim = "a", equals_host = "api.example.com" }'],
  ["a path that does not begin with /", '"/items/{id}"', '"items"'],
  ["a method in lower case", '"GET"', '"get"'],
  ["an unknown algorithm", '"RS256"', '"HS256"'],
  ["two places for keys", "jwks_url", "discovery = true\njwks_url"],
  ["keys and a URL for them", "jwks_url", 'jwks = { keys = [{ kty = "OKP" }] }\njwks_url'],
  ["a file of keys and a URL", "jwks_url", 'jwks_file = "keys.json"\njwks_url'],
  ["an empty key set", 'jwks_url = "https://id.example.com/jwks"', "jwks = { keys = [] }"],
  ["a token header with a space", "jwks_url", 'token_header = "X Token"\njwks_url'],
  ["no place for keys", 'jwks_url = "https://id.example.com/jwks"', ""],
  ["half a place for keys", 'jwks_url = "https://id.example.com/jwks"', 'jwks_path = "/a"'],
  ["an upstream's name in upper case", "upstreams.shop", "upstreams.SHOP"],
  ["an upstream that is nowhere", 'url = "https://shop.example.com"', ""],
  ["a text where a number belongs", "[upstreams.shop]", '[upstreams.shop]\ntimeout_ms = "5s"'],
  ["a number out of range", "[upstreams.shop]", "[upstreams.shop]\nretries = 4"],
  ["a scope with a quote", "[[routes]]", "[[resources]]\nscopes_supported = ['a\"b']\n[[routes]]"],
  ["a bearer method", "[[routes]]", '[[resources]]\nbearer_methods_supported = ["query"]\n[[routes]]'],
  ["two prefixes", "access", 'strip_prefix = "/items"\nreplace_prefix = { from = "/items", to = "/a" }\naccess'],
]) {
  test(`${what} is marked`, () => {
    assert.ok(isValid(SOUND), JSON.stringify(validate.errors));
    assert.equal(isValid(SOUND.replace(from, to)), false);
  });
}
