// A browser's token in a cookie: accepted where the policy allows it and the request is same-site, and never
// passed on.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startGateway } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";

const scope = fileScope();

describe("a token in a cookie", () => {
  let users, edge, token, own;

  before(async () => {
    const gateway = await startGateway(scope, { policy: "browser" });
    ({ users, edge } = gateway);
    token = await gateway.issuer.accessToken();
    own = { "sec-fetch-site": "same-origin" };
  });

  const ask = (method, headers, path = "/app") =>
    edge.send({ method, path, headers: { cookie: `a=1; __Host-token=${token}; b=2`, ...headers } });
  const codeOf = ({ status, body }) => (status === 200 ? "ok" : JSON.parse(body).code);

  test("is accepted, and the service sees the assertion and the other cookies", async () => {
    const answer = await ask("POST", own);
    assert.equal(answer.status, 200, answer.body);
    const { headers } = users.requests.at(-1);
    assert.equal(headers.cookie, "a=1; b=2");
    assert.equal(headers.authorization, undefined);
    assert.equal(answer.headers["cache-control"], "private");
    assert.ok(headers["x-user-id"]);
    assert.ok(!JSON.stringify(headers).includes(token));
  });

  test("is accepted from pages of the gateway's or a listed origin, and for links", async () => {
    for (const [what, method, headers, expected] of [
      ["a page of ours", "POST", own, "ok"],
      ["a page of ours, in an old browser", "POST", { origin: new URL(edge.url).origin }, "ok"],
      ["a listed page", "POST", { "sec-fetch-site": "cross-site", origin: "https://app.example" }, "ok"],
      [
        "a page of another site",
        "POST",
        { "sec-fetch-site": "cross-site", origin: "https://evil.example" },
        "cross_site",
      ],
      [
        "a form of another site",
        "POST",
        { origin: "https://evil.example", "content-type": "text/plain" },
        "cross_site",
      ],
      ["a sandboxed page", "POST", { "sec-fetch-site": "cross-site", origin: "null" }, "cross_site"],
      [
        "a page of a sibling",
        "POST",
        { "sec-fetch-site": "same-site", origin: "https://x.edge.example" },
        "cross_site",
      ],
      ["a client without these headers", "POST", {}, "cross_site"],
      ["a link", "GET", { "sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate" }, "ok"],
      ["a page of another site, in an old browser", "GET", { origin: "https://evil.example" }, "cross_site"],
      [
        "a script of another site",
        "GET",
        { "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors" },
        "cross_site",
      ],
    ]) {
      users.forget();
      const answer = await ask(method, headers);
      assert.equal(codeOf(answer), expected, what);
      assert.equal(users.requests.length, expected === "ok" ? 1 : 0, what);
      assert.equal(answer.status, expected === "ok" ? 200 : 403, what);
    }
  });

  test("opens no WebSocket for a page of another site", async () => {
    const headers = {
      connection: "Upgrade",
      upgrade: "websocket",
      "sec-websocket-version": "13",
      "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
    };
    const answer = await ask("GET", { ...headers, origin: "https://evil.example" }, "/app/socket");
    assert.equal(answer.status, 403);
    assert.equal(answer.json().code, "cross_site");
  });

  test("is ignored on routes without cookies, and is not passed on there either", async () => {
    assert.equal(codeOf(await ask("PUT", own, "/private")), "credentials_missing");
    assert.equal((await ask("GET", own, "/open")).status, 200);
    assert.equal(users.requests.at(-1).headers.cookie, "a=1; b=2");
  });

  test("is passed on as a bearer token where the policy passes tokens on", async () => {
    assert.equal((await ask("GET", own, "/app/passed-on")).status, 200);
    const { headers } = users.requests.at(-1);
    assert.equal(headers.authorization, `Bearer ${token}`);
    assert.equal(headers.cookie, "a=1; b=2");
  });

  test("is refused if it is invalid, duplicated, hidden, or not the token in Authorization", async () => {
    for (const [cookie, headers, expected] of [
      ["__Host-token=a.b.c", own, "token_malformed"],
      [`__Host-token=${token}; __Host-token=${token}`, own, "credentials_malformed"],
      [`a=1, __Host-token=${token}`, own, "credentials_malformed"],
      ["__Host-token=", own, "credentials_missing"],
      [`__Host-token=${token}`, { ...own, authorization: "Bearer a.b.c" }, "credentials_ambiguous"],
      ["__Host-token=a.b.c", { authorization: `Bearer ${token}` }, "credentials_ambiguous"],
      [`__Host-token=${token}; __Host-token=a.b.c`, { authorization: `Bearer ${token}` }, "credentials_ambiguous"],
      [`__Host-token=${token}; __Host-token=${token}`, { authorization: `Bearer ${token}` }, "ok"],
      // Another host of the domain can set these. Next to Authorization they lock no user out.
      ["a=1, __Host-token=a.b.c", { authorization: `Bearer ${token}` }, "ok"],
      ["__Host-token =a.b.c; __Host-token", { authorization: `Bearer ${token}` }, "ok"],
      ['__Host-token="a.b.c"', { authorization: `Bearer ${token}` }, "ok"],
      [`__Host-token=${token}`, { ...own, authorization: "Basic eDp5" }, "credentials_malformed"],
      [`__Host-token=${token}`, { authorization: `Bearer ${token}` }, "ok"],
      ["__Host-token=", { authorization: `Bearer ${token}` }, "ok"],
      ["__host-token=a.b.c", own, "credentials_missing"],
      // Browsers let other hosts set these: the name lacks the prefix __Host-.
      ...["\u2000", "\u00a0", "\u0085", "\u2028", "\ufeff"].flatMap((space) => {
        const raw = (text) => Buffer.from(text, "utf8").toString("latin1");
        return [
          [raw(`${space}__Host-token=${token}`), own, "credentials_missing"],
          [raw(`a=1; ${space}__Host-token=${token}`), own, "credentials_missing"],
          [raw(`${space}__Host-token=a.b.c; __Host-token=${token}`), own, "ok"],
        ];
      }),
    ]) {
      const answer = await edge.send({ method: "POST", path: "/app", headers: { cookie, ...headers } });
      assert.equal(codeOf(answer), expected, cookie.replaceAll(token, "…"));
    }
  });
});
