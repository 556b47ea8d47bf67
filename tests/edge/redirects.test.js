// References in an answer: URLs of the service become URLs of the gateway, in every spelling that a browser
// reads as the service's address, and nothing becomes a URL of another host.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { startEdge } from "../harness/edge.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

describe("references in a service's answer", () => {
  let users, second, edge, leads;

  before(async () => {
    const auth = await startUpstream(scope);
    // Written as bytes, because node:http refuses some of these values.
    const answer = (request) => {
      const lines = Object.entries(leads).map(([name, value]) => `${name}: ${value}\r\n`);
      request.socket.end(`HTTP/1.1 302 Found\r\n${lines.join("")}content-length: 0\r\nconnection: close\r\n\r\n`);
    };
    users = await startUpstream(scope, answer);
    second = await startUpstream(scope, answer);
    const vars = { UPSTREAM_USERS_URL: `${users.url},${second.url}` };
    edge = await startEdge(scope, { auth, users, vars, policy: "rules" });
  });

  const follow = async (path, given) => {
    leads = given;
    const answer = await edge.get(path);
    assert.equal(answer.status, 302, answer.body);
    return answer.headers;
  };

  // The URL that a client resolves the reference to.
  const resolved = (reference, path) => new URL(reference, `${edge.url}${path}`);

  test("a URL of the service becomes a URL of the gateway, in every spelling", async () => {
    const [host, other] = [users.url.slice("http://".length), second.url.slice("http://".length)];
    const port = host.split(":")[1];
    for (const [location, expected] of [
      [`http://${host}/home?x=1#top`, "/home?x=1#top"],
      [`http://${host}//evil.example/x`, "//evil.example/x"],
      [`http://${host}/\\evil.example/x`, "//evil.example/x"],
      [`HTTP://${host}/x`, "/x"],
      [`hTTp:\\\\${host}\\x`, "/x"],
      [`ht\ttp://${host}/\tx`, "/x"],
      [`https://${host}/x`, "/x"],
      [`//${host}/x`, "/x"],
      [`//${host}//evil.example/x`, "//evil.example/x"],
      [`\\\\${host}\\x`, "/x"],
      [`/\\${host}/x`, "/x"],
      [`/\t/${host}/x`, "/x"],
      [`http://ada:secret@${host}/x`, "/x"],
      [`http://0x7f.1:${port}/x`, "/x"],
      [`http://127.0.0.1.:${port}/x`, "/x"],
      [`http://${host}`, "/"],
      [`http://${host}?a`, "/?a"],
      [`http://${other}/x`, "/x"],
    ]) {
      const { location: led } = await follow("/plain", { location });
      assert.equal(led, `${edge.url}${expected}`, location);
    }
  });

  test("references to elsewhere, and those that need no change, are passed on unchanged", async () => {
    const host = users.url.slice("http://".length);
    for (const location of [
      "https://id.example/authorize?x=1",
      "//other.example/x",
      `http://${host}.evil.example/`,
      `http://${host}@evil.example/`,
      "http://127.0.0.1:1/x",
      "/relative?x=1#top",
      "next",
      "?page=2",
      "#top",
      "mailto:ada@example.com",
    ]) {
      const { location: led } = await follow("/plain", { location });
      assert.equal(led, location);
    }
  });

  test("a stripped or replaced prefix is restored", async () => {
    for (const [path, location, expected] of [
      ["/shop/items/7", "/items/8", "/shop/items/8"],
      ["/shop/items/7", `${users.url}/items/8?x`, "/shop/items/8?x"],
      ["/shop/items/7", "8", "/shop/items/8"],
      ["/shop/items/7", "../x", "/shop/x"],
      ["/shop/items/7", "/", "/shop"],
      ["/shop/items/7", `${users.url}//evil.example`, "/shop//evil.example"],
      ["/shop", "/shopping", "/shop/shopping"],
      // A service that reads X-Forwarded-Prefix has restored it.
      ["/shop/items/7", "/shop/items/8", "/shop/items/8"],
      ["/shop/items/7", `${users.url}/shop/items/8`, "/shop/items/8"],
      ["/old/a", "/v2/b", "/old/b"],
      ["/old/a", `${users.url}/v2/b`, "/old/b"],
      ["/old/a", "/elsewhere", "/elsewhere"],
      ["/old/a", "/v20", "/v20"],
    ]) {
      const { location: led } = await follow(path, { location });
      assert.equal(resolved(led, path).href, `${edge.url}${expected}`, `${path} ${location}`);
    }
  });

  test("the service learns the stripped prefix from the gateway only", async () => {
    const headers = { "x-forwarded-prefix": "/forged" };
    leads = {};
    for (const [path, expected] of [
      ["/shop/items/7", "/shop"],
      ["/old/a", undefined],
      ["/plain", undefined],
    ]) {
      await edge.get(path, { headers });
      const seen = [...users.requests, ...second.requests].at(-1);
      assert.ok(
        [...users.requests, ...second.requests].every((request) => request.headers["x-forwarded-prefix"] !== "/forged"),
      );
      const prefixes = [users, second].map((service) => service.requests.at(-1)?.headers["x-forwarded-prefix"]);
      assert.ok(prefixes.includes(expected), `${path}: ${prefixes} ${seen.path}`);
      users.forget();
      second.forget();
    }
  });

  test("other headers with references are treated alike", async () => {
    const { url } = users;
    for (const [name, value, expected] of [
      ["content-location", `${url}//evil.example/x`, `${edge.url}//evil.example/x`],
      ["content-location", "https://other.example/x", "https://other.example/x"],
      ["refresh", `5; url=${url}//evil.example/x`, `5; url=${edge.url}//evil.example/x`],
      ["refresh", `0;URL='${url}/x'`, `0; url=${edge.url}/x`],
      ["refresh", "5", "5"],
      ["refresh", "5; url=https://other.example/", "5; url=https://other.example/"],
      [
        "link",
        `<${url}/a?page=2>; rel="next", <https://other.example/>; rel="x"; title="<${url}>"`,
        `<${edge.url}/a?page=2>; rel="next", <https://other.example/>; rel="x"; title="<${url}>"`,
      ],
      ["link", "</style.css>; rel=preload", "</style.css>; rel=preload"],
    ]) {
      const headers = await follow("/plain", { [name]: value });
      assert.equal(headers[name], expected);
    }
  });
});
