// Validators of requests, compiled from OpenAPI documents: what they find, and whether another implementation of JSON
// Schema (hyperjump) finds the same.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";

import "@hyperjump/json-schema/formats";
import { registerSchema, setShouldValidateFormat, validate as judgeOf } from "@hyperjump/json-schema/openapi-3-1";

import { OpenApiError, parseOpenApi } from "../../cli/lib/openapi.js";
import { readOperations } from "../../cli/lib/openapi-operations.js";
import { compileValidators, validatorsModule } from "../../cli/lib/openapi-validators.js";
import { ORIGIN } from "../../scripts/lib/paths.js";
import { compileOrigin } from "../../scripts/lib/setup.js";
import { validate } from "../../src/host/validate.js";

const MAX_BYTES = 64 * 1024;

async function compile(text) {
  const document = await parseOpenApi(typeof text === "string" ? text : JSON.stringify(text), "shop.yaml");
  const { operations, faults } = readOperations(document);
  assert.deepEqual(faults, []);
  const compiled = await compileValidators(document, operations, "shop.yaml");
  const source = validatorsModule(new Map([["shop", compiled]]));
  const built = await import(`data:text/javascript;base64,${Buffer.from(source).toString("base64")}`);
  assert.equal(built.digestOf("shop"), compiled.digest);
  const validator = built.validatorOf("shop");
  /** Returns the result and the findings of a request. */
  const check = async (method, target, { headers = {}, body } = {}) => {
    const given = new Map(Object.entries(headers));
    const isJson = body !== undefined && typeof body !== "string" && !(body instanceof Uint8Array);
    if (isJson && !given.has("content-type")) given.set("content-type", "application/json");
    const bytes = isJson ? JSON.stringify(body) : body;
    const request = new Request("http://gateway.invalid/", { method, ...(bytes !== undefined && { body: bytes }) });
    const packed = [target, method, ...[...given].flat()].join("\n");
    const [result, ...lines] = (await validate(request, validator, packed, MAX_BYTES, 1_000)).split("\n");
    const findings = [];
    for (let index = 0; index < lines.length; index += 3) findings.push(lines.slice(index, index + 3).join(" | "));
    return [result, ...findings];
  };
  return { check, notes: compiled.notes, source };
}

const ok = { responses: { 200: { description: "ok" } } };
const jsonBody = (schema, required = true) => ({ required, content: { "application/json": { schema } } });
const documentOf = (paths, components = {}, openapi = "3.1.0") => ({
  openapi,
  info: { title: "Shop", version: "1" },
  paths,
  components,
});

const parameter = (where, name, schema, more = {}) => ({
  in: where,
  name,
  schema,
  required: where === "path",
  ...more,
});

const SHOP = documentOf(
  {
    "/orders": {
      parameters: [parameter("query", "limit", { type: "string" })],
      get: {
        parameters: [
          parameter("query", "limit", { type: "integer", minimum: 1, maximum: 100 }),
          parameter("query", "status", { enum: ["open", "closed"] }),
          parameter("query", "name", { type: "string", maxLength: 3 }),
          parameter("query", "paid", { type: "boolean" }),
          parameter("query", "id", { type: "array", items: { type: "integer" }, maxItems: 3 }),
          parameter(
            "query",
            "tags",
            { type: "array", maxItems: 2, items: { type: "string", minLength: 1 } },
            { explode: false },
          ),
          parameter("query", "sizes[]", { type: "array", items: { type: "integer" } }),
          parameter("query", "note", { type: "string", minLength: 1 }, { allowEmptyValue: true }),
          parameter("query", "filter", { type: "object" }, { style: "deepObject" }),
          {
            in: "query",
            name: "where",
            content: { "application/json": { schema: { type: "object", required: ["a"] } } },
          },
          parameter("header", "X-Tenant", { type: "string", pattern: "^[a-z]+$" }, { required: true }),
          parameter("header", "X-Ids", { type: "array", items: { type: "integer" } }),
          parameter("header", "Authorization", { type: "string" }, { required: true }),
          parameter("header", "X-Gateway-Assertion", { type: "string" }, { required: true }),
          parameter("cookie", "session", { type: "string" }, { required: true }),
        ],
        ...ok,
      },
      post: { requestBody: jsonBody({ $ref: "#/components/schemas/Order" }), ...ok },
      put: { requestBody: { content: { "application/*": { schema: { type: "object" } }, "image/png": {} } }, ...ok },
      delete: ok,
    },
    "/orders/{order-id}": {
      get: { parameters: [parameter("path", "order-id", { type: "string", format: "uuid" })], ...ok },
      patch: { requestBody: jsonBody({ type: "object", additionalProperties: { type: "integer" } }, false), ...ok },
    },
    "/orders/new": { get: ok },
  },
  {
    schemas: {
      Order: {
        type: "object",
        required: ["id", "item", "count", "toString"],
        properties: {
          id: { type: "string", readOnly: true },
          item: { type: "string", pattern: "^[a-z]{1,5}$" },
          count: { type: "integer", format: "int32" },
          toString: { type: "string" },
          default: { type: "boolean" },
          next: { $ref: "#/components/schemas/Order" },
          sku: { type: "string", format: "stock-number" },
        },
        additionalProperties: false,
      },
    },
  },
);

const TENANT = { "x-tenant": "a" };
const ORDER = { item: "pen", count: 1, toString: "x" };

describe("a validator", async () => {
  const { check, notes } = await compile(SHOP);

  for (const [target, headers, ...expected] of [
    ["/orders", TENANT, ""],
    ["/orders", {}, "400", "header | x-tenant | is required"],
    ["/orders", { "x-tenant": "A" }, "400", 'header | x-tenant | must match pattern "^[a-z]+$"'],
    ["/orders?limit=1&status=open&name=abc&paid=true", TENANT, ""],
    ["/orders?name=123", TENANT, ""],
    ["/orders?name=1234", TENANT, "400", "query | name | must NOT have more than 3 characters"],
    ["/orders?limit=0", TENANT, "400", "query | limit | must be >= 1"],
    ["/orders?limit=1.5", TENANT, "400", "query | limit | must be integer"],
    ["/orders?limit=0x10", TENANT, "400", "query | limit | must be integer"],
    ["/orders?limit=%201", TENANT, "400", "query | limit | must be integer"],
    ["/orders?limit=", TENANT, "400", "query | limit | must be integer"],
    ["/orders?limit=1e1", TENANT, ""],
    ["/orders?limit=1&limit=2", TENANT, "400", "query | limit | is there twice"],
    ["/orders?paid=TRUE", TENANT, "400", "query | paid | must be boolean"],
    [
      "/orders?status=secret",
      TENANT,
      "400",
      'query | status | must be equal to one of the allowed values: ["open","closed"]',
    ],
    ["/orders?id=1&id=2&id=3", TENANT, ""],
    ["/orders?id=1&id=x", TENANT, "400", "query | id | must be integer"],
    ["/orders?id=1&id=2&id=3&id=4", TENANT, "400", "query | id | must NOT have more than 3 items"],
    ["/orders?tags=a,b", TENANT, ""],
    ["/orders?tags=a,", TENANT, "400", "query | tags | must NOT have fewer than 1 characters"],
    ["/orders?tags=a,b,c", TENANT, "400", "query | tags | must NOT have more than 2 items"],
    ["/orders?tags=a%2Cb,c", TENANT, ""],
    ["/orders?t%61gs=a,b,c", TENANT, "400", "query | tags | must NOT have more than 2 items"],
    ["/orders?limit[]=x", TENANT, "400", "query | limit | is there in another spelling"],
    ["/orders?limit%5B0%5D=1&limit=1", TENANT, "400", "query | limit | is there in another spelling"],
    ["/orders?limit[$gt]=1&limit[$lt]=2", TENANT, "400", "query | limit | is there in another spelling"],
    ["/orders?+Limit=1", TENANT, "400", "query | limit | is there in another spelling"],
    ["/orders?sizes[]=1&sizes[]=2", TENANT, ""],
    ["/orders?sizes=1", TENANT, "400", "query | sizes[] | is there in another spelling"],
    ["/orders?filter[a]=1", TENANT, ""],
    ["/orders?tags=a&tags=b", TENANT, "400", "query | tags | is there twice"],
    ["/orders?note=", TENANT, ""],
    ["/orders?where=%7B%22a%22:1%7D", TENANT, ""],
    ["/orders?where=%7B%7D", TENANT, "400", "query | where | must have required property 'a'"],
    ["/orders?where=x", TENANT, "400", "query | where | is not JSON"],
    ["/orders?where=%7B%22a%22:1,%22a%22:2%7D", TENANT, "400", "query | where | is there twice"],
    ["/orders?unknown=1", TENANT, ""],
    ["/orders", { ...TENANT, "x-ids": "1, 2" }, ""],
    ["/orders", { ...TENANT, "x-ids": "1, x" }, "400", "header | x-ids | must be integer"],
    [
      "/orders?limit=x&status=y",
      {},
      "400",
      "query | limit | must be integer",
      'query | status | must be equal to one of the allowed values: ["open","closed"]',
      "header | x-tenant | is required",
    ],
    ["/orders/new", {}, ""],
    ["/orders/0b2e5d1c-9a43-4a39-8a52-0d6d8f6b2d11", {}, ""],
    ["/orders/7", {}, "400", 'path | order-id | must match format "uuid"'],
    ["/orders/%FF", {}, "400", "path | order-id | is required"],
    ["/orders/7/8", {}, "400", "path |  | is no operation of the document"],
    ["/Orders", {}, "400", "path |  | is no operation of the document"],
  ]) {
    test(`judges GET ${target} with ${JSON.stringify(headers)}`, async () => {
      assert.deepEqual(await check("GET", target, { headers }), expected);
      assert.deepEqual(await check("HEAD", target, { headers }), expected);
    });
  }

  const json = (text) => ({ body: text, headers: { "content-type": "application/json" } });
  const typed = (type, more = {}) => ({ body: JSON.stringify(ORDER), headers: { "content-type": type, ...more } });
  for (const [name, request, ...expected] of [
    ["a body as described", { body: ORDER }, ""],
    ["no body", {}, "400", "body |  | is required"],
    ["an empty body", json(""), "400", "body |  | is required"],
    ["another type of a member", { body: { ...ORDER, count: "1" } }, "400", "body | /count | must be integer"],
    [
      "a number beyond its format",
      { body: { ...ORDER, count: 2 ** 31 } },
      "400",
      'body | /count | must match format "int32"',
    ],
    ["a missing member", { body: { item: "pen" } }, "400", "body |  | must have required property 'count'"],
    [
      "an unknown member",
      { body: { ...ORDER, isAdmin: true } },
      "400",
      "body |  | must NOT have additional properties",
    ],
    [
      "a fault within",
      { body: { ...ORDER, next: { ...ORDER, item: "PEN" } } },
      "400",
      'body | /next/item | must match pattern "^[a-z]{1,5}$"',
    ],
    ["null", { body: null }, "400", "body |  | must be object"],
    ["no JSON", json("{"), "400", "body |  | is not JSON"],
    ["a comment", json("{} // x"), "400", "body |  | is not JSON"],
    ["NaN", json('{"count":NaN}'), "400", "body |  | is not JSON"],
    ["a byte order mark", json(`\ufeff${JSON.stringify(ORDER)}`), "400", "body |  | is not JSON"],
    ["bytes that are not UTF-8", json(new Uint8Array([0x22, 0xff, 0x22])), "400", "body |  | is not UTF-8"],
    ["a member twice", json('{"item":"pen","count":1,"count":-1}'), "400", "body | /count | is there twice"],
    ["a member twice by an escape", json('{"count":1,"\\u0063ount":-1}'), "400", "body | /count | is there twice"],
    [
      "a member twice within",
      json('{"a":[{"x":"},{"},{"b/~":1,"b/~":2}]}'),
      "400",
      "body | /a/1/b~1~0 | is there twice",
    ],
    [
      "__proto__",
      json('{"item":"pen","__proto__":{"count":1,"toString":"x"}}'),
      "400",
      "body |  | must have required property 'count'",
    ],
    [
      "a member that every object has",
      { body: { item: "pen", count: 1 } },
      "400",
      "body |  | must have required property 'toString'",
    ],
    ["deep nesting", json(`${"[".repeat(65)}${"]".repeat(65)}`), "400", "body |  | nests more than 64 levels"],
    ["very deep nesting", json(`${'{"next":'.repeat(8_000)}1`), "400", "body |  | is not JSON"],
    ["more than 64 KiB", json(`"${"x".repeat(MAX_BYTES)}"`), "over_limit"],
    ["64 KiB", json(`"${"x".repeat(MAX_BYTES - 2)}"`), "400", "body |  | must be object"],
    ["a number beyond 2^53", json('{"count":9007199254740993}'), "400", "body | /count | is a number beyond 2^53"],
    ["its negative in a list", json('{"a":[0,-9007199254740992]}'), "400", "body | /a/1 | is a number beyond 2^53"],
    ["a number that is infinite", json("1e400"), "400", "body |  | is a number beyond 2^53"],
    [
      "more than 64 KiB of another type",
      { body: "x".repeat(MAX_BYTES + 1), headers: { "content-type": "text/plain" } },
      "415",
      "header | content-type | must be application/json",
    ],
    ["a charset", typed("Application/JSON; charset=UTF-8"), ""],
    ["a quoted charset", typed('application/json ; x="\\"; charset=utf-16" ;; charset="ut\\f-8"'), ""],
    ...[
      "charset=utf-16",
      "charset=utf8",
      'charset="ut\\f-16"',
      "charset=utf-8; charset=utf-16",
      "charset=utf-8; charset=utf-8",
      'x="; charset=utf-8"; charset=utf-16',
      "charset*=utf-8''utf-16",
      "charset*0=utf-8",
      "charset = utf-8",
      "charset=",
      'charset="utf-8',
      "charset",
    ].map((text) => [text, typed(`application/json; ${text}`), "415", "header | content-type | must be UTF-8"]),
    ["another type", typed("text/plain"), "415", "header | content-type | must be application/json"],
    ["a form", typed("application/x-www-form-urlencoded"), "415", "header | content-type | must be application/json"],
    ["two types", typed("application/json, text/plain"), "415", "header | content-type | must be application/json"],
    [
      "another type of JSON",
      typed("application/merge-patch+json"),
      "415",
      "header | content-type | must be application/json",
    ],
    ["no type", typed(""), "415", "header | content-type | must be application/json"],
    [
      "a compressed body",
      typed("application/json", { "content-encoding": "gzip" }),
      "415",
      "header | content-encoding | must be absent, because the body is checked",
    ],
  ]) {
    test(`judges a POST with ${name}`, async () => assert.deepEqual(await check("POST", "/orders", request), expected));
  }

  test("judges the body of the most specific media range, and passes other types on", async () => {
    const put = (type, body) => check("PUT", "/orders", { body, headers: { "content-type": type } });
    assert.deepEqual(await put("application/problem+json", "[]"), ["400", "body |  | must be object"]);
    assert.deepEqual(await put("application/json", "{}"), [""]);
    assert.deepEqual(await put("application/zip", "[]"), [""]);
    assert.deepEqual(await put("image/png", "["), [""]);
    assert.deepEqual(await put("image/gif", "["), [
      "415",
      "header | content-type | must be application/* or image/png",
    ]);
    assert.deepEqual(await check("PUT", "/orders"), [""]);
    assert.deepEqual(await check("DELETE", "/orders", { body: {} }), [
      "400",
      "body |  | is not part of this operation",
    ]);
    assert.deepEqual(await check("DELETE", "/orders", { body: "x".repeat(MAX_BYTES + 1) }), [
      "400",
      "body |  | is not part of this operation",
    ]);
    assert.deepEqual(await check("DELETE", "/orders"), [""]);
    assert.deepEqual(await check("PATCH", "/orders/7"), [""]);
    assert.deepEqual(await check("PATCH", "/orders/7", { body: { "9007199254740993": 2 ** 53 - 1 } }), [""]);
    const pointer = { body: { "secret\n": "x" } };
    assert.deepEqual(await check("PATCH", "/orders/7", pointer), ["400", "body | /secret  | must be integer"]);
  });

  test("uses the operation of the most specific path, in any order of the document", async () => {
    const id = [parameter("path", "id", { type: "integer" })];
    const paths = {
      "/orders/{id}": { get: { parameters: id, ...ok } },
      "/orders": { get: ok },
      "/orders/{id}/{item}": { get: { parameters: [...id, parameter("path", "item", {})], ...ok } },
      "/orders/search": { get: { parameters: [parameter("query", "q", {}, { required: true })], ...ok } },
      "/{list}/search": { get: { parameters: [parameter("path", "list", { type: "null" })], ...ok } },
    };
    const forwards = await compile(documentOf(paths));
    const backwards = await compile(documentOf(Object.fromEntries(Object.entries(paths).reverse())));
    for (const { check: checkOther } of [forwards, backwards]) {
      assert.deepEqual(await checkOther("GET", "/orders/search"), ["400", "query | q | is required"]);
      assert.deepEqual(await checkOther("GET", "/orders/search?q=1"), [""]);
      assert.deepEqual(await checkOther("GET", "/orders/x"), ["400", "path | id | must be integer"]);
      assert.deepEqual(await checkOther("GET", "/carts/search"), ["400", "path | list | must be null"]);
      assert.deepEqual(await checkOther("GET", "/orders"), [""]);
    }
  });

  test("splits lists of a path before it decodes them", async () => {
    const ids = parameter("path", "ids", { type: "array", maxItems: 2, items: { type: "string" } });
    const listed = await compile(documentOf({ "/{ids}": { get: { parameters: [ids], ...ok } } }));
    assert.deepEqual(await listed.check("GET", "/a%2Cb,c"), [""]);
    assert.deepEqual(await listed.check("GET", "/a,b,c"), ["400", "path | ids | must NOT have more than 2 items"]);
  });

  test("requires no member that only answers have, wherever the document says so", async () => {
    const Id = { type: "string", readOnly: true };
    const Base = { type: "object", properties: { id: { $ref: "#/components/schemas/Id" }, name: {} } };
    const all = { allOf: [{ $ref: "#/components/schemas/Base" }, { required: ["id", "name"] }] };
    const body = await compile(
      documentOf({ "/": { post: { requestBody: jsonBody(all), ...ok } } }, { schemas: { Id, Base } }),
    );
    assert.deepEqual(await body.check("POST", "/", { body: { name: 1 } }), [""]);
    assert.deepEqual(await body.check("POST", "/", { body: {} }), [
      "400",
      "body |  | must have required property 'name'",
    ]);
  });

  test("knows no nullable in 3.1", async () => {
    const schema = { type: "string", nullable: true };
    const body = await compile(documentOf({ "/": { post: { requestBody: jsonBody(schema), ...ok } } }));
    assert.deepEqual(await body.check("POST", "/", { body: "null", headers: { "content-type": "application/json" } }), [
      "400",
      "body |  | must be string",
    ]);
  });

  test("names what it does not check", () => {
    assert.deepEqual(
      notes.map(({ message }) => message),
      [
        "the query parameter filter is not checked: it is an object",
        "the format stock-number is unknown and not checked",
      ],
    );
  });

  test("reads the schemas of 3.0", async () => {
    const schema = {
      type: "object",
      properties: {
        name: { type: "string", nullable: true },
        age: { type: "integer", minimum: 0, exclusiveMinimum: true, maximum: 9, exclusiveMaximum: false },
        one: { $ref: "#/components/schemas/One", type: "string" },
      },
      example: { name: 7, id: "x" },
    };
    const One = { type: "integer", enum: [1] };
    const old = await compile(
      documentOf({ "/": { post: { requestBody: jsonBody(schema), ...ok } } }, { schemas: { One } }, "3.0.3"),
    );
    for (const [body, ...expected] of [
      [{ name: null, age: 9, one: 1 }, ""],
      [{ age: 0 }, "400", "body | /age | must be > 0"],
      [{ age: null }, "400", "body | /age | must be integer"],
      [{ one: "1" }, "400", "body | /one | must be integer"],
    ])
      assert.deepEqual(await old.check("POST", "/", { body }), expected);
  });
});

const ref = (name) => ({ $ref: `#/components/schemas/${name}` });
const treeOf = (name) => ({ properties: { [name]: {}, children: { type: "array", items: ref("A") } } });

describe("the build", () => {
  const schemaOf = (schema, components) =>
    documentOf({ "/": { post: { requestBody: jsonBody(schema), ...ok } } }, components);
  for (const [name, document, expected] of [
    ["a wrong type", schemaOf({ type: "strng" }), /shop\.yaml:1:\d+: the schema is invalid/],
    ["a wrong pattern", schemaOf({ pattern: "(" }), /Invalid regular expression/],
    ["a pattern that only older engines know", schemaOf({ pattern: "\\-" }), /Invalid escape/],
    [
      "a reference into a path",
      schemaOf({ $ref: "#/paths/~1/post/requestBody" }),
      /a schema can refer to #\/components\/schemas\/ only/,
    ],
    ["a reference to another file", schemaOf({ $ref: "x.yaml" }), /other files and URLs are not read/],
    ["a dialect", { ...schemaOf({}), jsonSchemaDialect: "https://dialect.invalid" }, /jsonSchemaDialect/],
    [
      "a dialect of one schema",
      schemaOf({ $schema: "http://json-schema.org/draft-07/schema#" }),
      /shop\.yaml:1:\d+: .* leave \$schema out/,
    ],
    ["an $id", schemaOf({ $id: "https://a.invalid/x" }), /shop\.yaml:1:\d+: a schema cannot be checked with \$id/],
    [
      "a parameter that its path does not have",
      documentOf({ "/{orderID}": { get: { parameters: [parameter("path", "orderId", {})], ...ok } } }),
      /shop\.yaml:1:\d+: the path has no parameter \{orderId\}/,
    ],
    ...[
      ["in one list", { anyOf: [ref("A"), { type: "string" }] }, {}],
      ["in two schemas", { allOf: [ref("B")] }, { B: { not: ref("A") } }],
    ].map(([name, A, more]) => [
      `a schema that refers to itself for the same value ${name}`,
      schemaOf(ref("A"), { schemas: { A, ...more } }),
      /shop\.yaml:1:\d+: the schema refers to itself for the same value/,
    ]),
    [
      "a parameter with thirty alternatives that are itself",
      documentOf(
        { "/": { get: { parameters: [parameter("query", "a", ref("A"))], ...ok } } },
        { schemas: { A: { anyOf: Array(30).fill(ref("A")) } } },
      ),
      /the schema refers to itself for the same value/,
    ],
    ...[
      ["oneOf", { oneOf: [ref("B"), ref("C")] }, { B: treeOf("x"), C: treeOf("y") }],
      ["anyOf of one schema twice", { anyOf: [ref("B"), ref("B")] }, { B: treeOf("x") }],
      ["allOf", { allOf: [ref("B"), treeOf("y")] }, { B: treeOf("x") }],
      ["other members", { anyOf: [{ properties: { a: ref("A") } }, { additionalProperties: ref("A") }] }, {}],
      ["patterns", { patternProperties: { "^a": ref("A"), "^b": ref("A") } }, {}],
      ["items", { anyOf: [{ prefixItems: [{}, ref("A")] }, { items: ref("A") }] }, {}],
      ["two steps", { items: { oneOf: [{ prefixItems: [ref("A")] }, { contains: ref("A") }] } }, {}],
    ].map(([name, A, more]) => [
      `a recursion that costs twice as much with each level, by ${name}`,
      schemaOf(ref("A"), { schemas: { A, ...more } }),
      /shop\.yaml:1:\d+: .* the cost of a check doubles with each level/,
    ]),
    ...[{}, { type: "object" }, ref("O"), { type: ["string", "array"] }, { allOf: [ref("O")] }].map((items) => [
      `uniqueItems of ${JSON.stringify(items)} without a bound`,
      schemaOf({ uniqueItems: true, maxItems: 201, items }, { schemas: { O: { type: "object" } } }),
      /shop\.yaml:1:\d+: uniqueItems of arrays or objects needs maxItems of 200 or less/,
    ]),
  ]) {
    test(`refuses a document with ${name}`, async () => {
      const error = await compile(document).then(
        () => assert.fail("it was compiled"),
        (error) => error,
      );
      assert.ok(error instanceof OpenApiError, String(error));
      assert.match(error.lines.join("\n"), expected);
    });
  }

  test("writes no code from the texts of a document", async () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it must not become code
    const bad = '`${globalThis.broken=1}`\'"\\\u2028*/ </script> require("node:fs")';
    globalThis.broken = 0;
    const { check, source } = await compile(
      documentOf(
        {
          "/x": {
            post: {
              operationId: bad,
              parameters: [parameter("query", bad, { enum: [bad] }), parameter("header", bad, { const: bad })],
              requestBody: {
                content: {
                  [`application/json; ${bad}`]: {
                    schema: {
                      title: bad,
                      properties: { [bad]: { const: bad, description: bad } },
                      required: [bad],
                      $comment: bad,
                    },
                  },
                },
              },
              ...ok,
            },
          },
        },
        {},
      ),
    );
    assert.equal(globalThis.broken, 0);
    assert.doesNotMatch(source, /[^.\w]require\((?!\\)/);
    assert.deepEqual(await check("POST", "/x", { body: { [bad]: bad } }), [""]);
    assert.equal((await check("POST", "/x", { body: { [bad]: 1 } }))[0], "400");
    assert.equal(globalThis.broken, 0);
  });

  test("compares scalars that a reference leads to without pairs of them", async () => {
    const types = { Tag: { type: "integer" }, Name: { enum: ["a", null] }, Id: { allOf: [ref("Tag")] } };
    for (const [name, double] of [
      ["Tag", [1, 1]],
      ["Name", [null, null]],
      ["Id", [2, 2]],
    ]) {
      const schema = { type: "array", uniqueItems: true, items: ref(name) };
      const { check, source } = await compile(schemaOf(schema, { schemas: types }));
      assert.deepEqual(await check("POST", "/", { body: double.slice(1) }), [""]);
      assert.match((await check("POST", "/", { body: double })).join(), /must NOT have duplicate items/);
      assert.doesNotMatch(source, /fast-deep-equal/);
    }
    const bounded = await compile(schemaOf({ uniqueItems: true, maxItems: 200, items: {} }));
    assert.match(
      (await bounded.check("POST", "/", { body: [{ a: 1 }, { a: 1 }] })).join(),
      /must NOT have duplicate items/,
    );
  });

  test("does not check the format url, whose pattern takes quadratic time", async () => {
    const { check, notes } = await compile(schemaOf({ type: "string", format: "url" }));
    assert.deepEqual(
      notes.map(({ message }) => message),
      ["the format url is unknown and not checked"],
    );
    const request = {
      body: JSON.stringify(`http://${":".repeat(60_000)}`),
      headers: { "content-type": "application/json" },
    };
    assert.deepEqual(await check("POST", "/", request), [""]);
  });

  test("compiles recursive schemas whose ways differ in their members", async () => {
    const A = {
      oneOf: [
        { type: "string" },
        { type: "object", required: ["left"], properties: { left: ref("A"), right: ref("A") } },
        { type: "object", required: ["not"], properties: { not: ref("A") }, additionalProperties: false },
        { type: "array", prefixItems: [ref("A")], items: ref("A") },
      ],
    };
    const { check } = await compile(schemaOf(ref("A"), { schemas: { A } }));
    assert.deepEqual(await check("POST", "/", { body: { left: ["a", { not: "b" }], right: "c" } }), [""]);
    assert.equal((await check("POST", "/", { body: { left: ["a", { not: 1 }] } }))[0], "400");
  });

  test("compiles a schema that refers to itself", async () => {
    const Tree = {
      type: "object",
      properties: { children: { type: "array", items: { $ref: "#/components/schemas/Tree" } } },
      additionalProperties: false,
    };
    const { check } = await compile(schemaOf({ $ref: "#/components/schemas/Tree" }, { schemas: { Tree } }));
    assert.deepEqual(await check("POST", "/", { body: { children: [{ children: [] }] } }), [""]);
    assert.deepEqual(await check("POST", "/", { body: { children: [{ child: [] }] } }), [
      "400",
      "body | /children/0 | must NOT have additional properties",
    ]);
  });
});

// --- Another implementation ---------------------------------------------------------------------------------

const VALUES = [
  null,
  true,
  0,
  -1,
  1.5,
  2 ** 40,
  "",
  "a",
  "ada@example.com",
  "0b2e5d1c-9a43-4a39-8a52-0d6d8f6b2d11",
  "x".repeat(300),
  "2026-01-31T12:00:00Z",
  [],
  ["a"],
  [1, 1],
  {},
  { a: 1 },
  "\u0000",
  "pass phrase 1",
];

/** Returns numbers below 2^32 that depend on the seed alone (xorshift). */
function* numbers(seed) {
  for (let state = seed; ; ) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    yield state >>> 0;
  }
}

function resolveRef(root, schema) {
  let found = schema;
  while (found?.$ref !== undefined) {
    const names = found.$ref.split("/").slice(1);
    found = names.reduce((value, name) => value[name], root);
  }
  return found;
}

/** Returns a value that a schema often allows. */
function sample(root, written, random, depth = 0) {
  const next = () => random.next().value;
  if (depth > 6 || next() % 12 === 0) return VALUES[next() % VALUES.length];
  const schema = resolveRef(root, written) ?? {};
  if (schema.const !== undefined) return schema.const;
  if (schema.enum !== undefined) return schema.enum[next() % schema.enum.length];
  const among = [schema.oneOf, schema.anyOf].flat().filter(Boolean);
  if (among.length > 0) return sample(root, among[next() % among.length], random, depth + 1);
  const [type] = [schema.type ?? "object"].flat();
  if (type === "object") {
    const members = Object.entries(schema.properties ?? {}).filter(
      ([name]) => schema.required?.includes(name) || next() % 2 === 0,
    );
    const entries = members
      .filter(() => next() % 15 > 0)
      .map(([name, member]) => [name, sample(root, member, random, depth + 1)]);
    if (next() % 10 === 0) entries.push(["surprise", 1]);
    return Object.fromEntries(entries);
  }
  if (type === "array") return Array.from({ length: next() % 4 }, () => sample(root, schema.items, random, depth + 1));
  if (type === "string") return schema.examples?.[0] ?? schema.example ?? VALUES[6 + (next() % 6)];
  if (type === "integer" || type === "number")
    return [0, 1, schema.minimum ?? 5, (schema.maximum ?? 5) + (next() % 2)][next() % 4];
  return type === "boolean" ? next() % 2 === 0 : null;
}

describe("another implementation of JSON Schema", async () => {
  if (!process.env.TEST_BUILT) await compileOrigin();
  for (const service of ["auth", "users"]) {
    test(`finds the same bodies invalid, by the document of ${service}`, async (t) => {
      setShouldValidateFormat(true);
      const root = JSON.parse(execFileSync(ORIGIN, ["openapi", service], { encoding: "utf8" }));
      const url = `https://judge.invalid/${service}`;
      registerSchema(structuredClone(root), url, "https://spec.openapis.org/oas/3.1/schema-base");
      const document = await parseOpenApi(JSON.stringify(root), service);
      const { operations } = readOperations(document);
      const compiled = await compileValidators(document, operations, service);
      const module = validatorsModule(new Map([[service, compiled]]));
      const built = await import(`data:text/javascript;base64,${Buffer.from(module).toString("base64")}`);
      const random = numbers(7);
      const counts = { valid: 0, invalid: 0 };
      for (const { method, written } of operations) {
        const { schema } = written.operation.requestBody?.content?.["application/json"] ?? {};
        if (schema === undefined) continue;
        const pointer = [...written.place, "requestBody", "content", "application/json", "schema"];
        const fragment = pointer
          .map((name) => encodeURIComponent(String(name).replaceAll("~", "~0").replaceAll("/", "~1")))
          .join("/");
        const judge = await judgeOf(`${url}#/${fragment}`);
        const path = written.place[1].replace(/\{[^}]*\}/g, "x");
        for (let round = 0; round < 200; round += 1) {
          const body = round < VALUES.length ? VALUES[round] : sample(root, schema, random);
          const request = new Request("http://gateway.invalid/", { method, body: JSON.stringify(body) });
          const packed = [path, method, "content-type", "application/json"].join("\n");
          const found = await validate(request, built.validatorOf(service), packed, MAX_BYTES, 1_000);
          const isValid = !/(?:^|\n)body\n/.test(found);
          assert.equal(isValid, judge(body).valid, `${method} ${path} ${JSON.stringify(body)}\n${found}`);
          counts[isValid ? "valid" : "invalid"] += 1;
        }
      }
      assert.ok(counts.valid > 100 && counts.invalid > 100, JSON.stringify(counts));
      t.diagnostic(`${counts.valid} valid and ${counts.invalid} invalid bodies`);
    });
  }
});
