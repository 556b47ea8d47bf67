// Refusals by templates in workerd, read by others: pages by parse5, which reads HTML as browsers do, and JSON by
// JavaScript.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { before, describe, test } from "node:test";

import { parse } from "parse5";

import { startGateway } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

const STYLE = "\nbody > main { color: #123 }\n";

const PAGE = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Shop: {title}</title><style>${STYLE}</style></head>
<body class="{code}"><main data-operation="{operation}" title="{detail}">
<h1>{status} {title}</h1><p>{detail}</p><p id="operation">{operation}</p><p id="id">{request_id}</p>
<p><a href="/help">Help</a> <img src="data:image/gif;base64,R0lGODlhAQABAAAAACw=" alt="Shop"></p>
</main></body></html>
`;

const POLICY = `
default_refusals = "shop"

[issuers.auth-service]
issuer = "auth-service"
audience = ["api"]
algorithms = ["RS256"]
jwks_upstream = "auth"
jwks_path = "/.well-known/jwks.json"

[upstreams.auth]
url = "http://127.0.0.1:1"

[upstreams.users]
url = "http://127.0.0.1:1"

[[routes]]
path = "/orders/{id}"
methods = ["GET"]
upstream = "users"
access = "user"

[[routes]]
path = "/admin"
methods = ["GET"]
upstream = "users"
access = { roles = ["admin"] }
issuers = ["auth-service"]

[refusals.shop]
html_file = "refusal.html"
json = { ok = false, status = "{status}", code = "{code}", id = "{request_id}", text = "\\"{detail}\\" at {operation}" }
`;

describe("refusals by a template", () => {
  let edge, issuer;

  before(async () => {
    ({ edge, issuer } = await startGateway(scope, {
      policy: { text: POLICY, files: { "refusal.html": PAGE } },
    }));
  });

  const elements = (node) => [node, ...(node.childNodes ?? []).flatMap(elements)].filter((one) => one.tagName);
  const shape = (html) => elements(parse(html)).map(({ tagName, attrs }) => [tagName, attrs.map(({ name }) => name)]);
  const text = (node) => (node.value ?? "") + (node.childNodes ?? []).map(text).join("");
  const find = (html, is) => elements(parse(html)).find(is);
  const attribute = (node, name) => node.attrs.find((one) => one.name === name)?.value;

  test("a page has the elements of its template, whatever the request", async () => {
    const token = await issuer.accessToken();
    for (const [path, status, options] of [
      ["/orders/7", 401, {}],
      ["/orders/%3Cscript%3Ealert(1)%3Cscript%3E", 401, {}],
      ["/nowhere?%3Cscript%3Ealert(1)%3C/script%3E", 404, {}],
      ["/nowhere/%22onload=%22alert(1)", 404, {}],
      ["/%7Bcode%7D/%7Brequest_id%7D", 404, {}],
      ["/admin", 403, { token }],
      ["/admin", 401, { token: "<script>alert(1)</script>" }],
      ["/admin", 401, { headers: { cookie: "<script>", "user-agent": "{code}<b>" } }],
      ["/a//b", 400, {}],
    ]) {
      const { headers, ...rest } = /** @type {any} */ (options);
      const answer = await edge.get(path, { ...rest, headers: { accept: "text/html", ...headers } });
      assert.equal(answer.status, status, path);
      assert.equal(answer.headers["content-type"], "text/html; charset=utf-8");
      assert.deepEqual(shape(answer.body), shape(PAGE), path);
      const { code } = await edge.lineOf(answer);
      assert.equal(
        attribute(
          find(answer.body, ({ tagName }) => tagName === "body"),
          "class",
        ),
        code,
      );
      const id = find(answer.body, (node) => attribute(node, "id") === "id");
      assert.equal(text(id), answer.headers["x-request-id"]);
      const operation = text(find(answer.body, (node) => attribute(node, "id") === "operation"));
      assert.equal(operation, (await edge.lineOf(answer)).route ?? "gateway");
    }
  });

  test("the content security policy allows the page's style and images, and nothing else", async () => {
    const answer = await edge.get("/nowhere", { headers: { accept: "text/html" } });
    const style = text(find(answer.body, ({ tagName }) => tagName === "style"));
    assert.equal(style, STYLE);
    assert.deepEqual(answer.headers["content-security-policy"].split("; "), [
      "default-src 'none'",
      `style-src 'sha256-${createHash("sha256").update(style).digest("base64")}'`,
      "img-src data:",
      "base-uri 'none'",
      "form-action 'none'",
      "frame-ancestors 'none'",
    ]);
  });

  test("JSON has the members of its template, and headers stay the same", async () => {
    const answer = await edge.get("/orders/7");
    assert.equal(answer.headers["content-type"], "application/json");
    assert.deepEqual(answer.json(), {
      ok: false,
      status: 401,
      code: "credentials_missing",
      id: answer.headers["x-request-id"],
      text: '"Authorization header required" at /orders/{id}',
    });
    assert.equal(answer.headers["www-authenticate"], 'Bearer realm="portcullis"');
    assert.equal(answer.headers["cache-control"], "no-store");
    assert.equal(answer.headers["x-content-type-options"], "nosniff");
    const chosen = await edge.get("/orders/7", { headers: { "x-request-id": '"},{"code":"x' } });
    assert.equal(chosen.json().code, "credentials_missing");
    assert.notEqual(chosen.json().id, '"},{"code":"x');
    const refused = await edge.send({ method: "DELETE", path: "/orders/7" });
    assert.deepEqual([refused.status, refused.headers.allow, refused.json().status], [405, "GET, HEAD", 405]);
  });

  test("programs that use the gateway's own endpoints get problem documents", async () => {
    const answer = await edge.get("/metrics");
    assert.deepEqual([answer.status, answer.headers["content-type"]], [404, "application/problem+json"]);
  });
});
