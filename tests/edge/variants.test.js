// Hundreds of spellings of paths, sent byte for byte, to an origin that records what it receives: what passes
// was decided on as exactly the string that arrives, and no decoder behind the gateway can read another
// rule's path in it.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { makeAssertionKey, readAssertion } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { sendBytes } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

// Replacements for a slash or a dot, or for what is between two segments.
// biome-ignore format: one list, not one spelling a line
const SLASHES = [
  "/", "//", "///", "%2f", "%2F", "%252f", "%255c", "\\", "%5c", "%5C", "/\\", "\\/", "%c0%af", "%e0%80%af",
  "%ef%bc%8f", "/;/", ";/", "/%3b/", "/%09/", "/%20/", "/%00/", "%00/", "/%0a", "%0d%0a/", "/.%00/", "/%u002f",
];
// biome-ignore format: one list, not one spelling a line
const DOTS = [
  ".", "..", "...", "%2e", "%2E%2e", "%2e.", ".%2e", "%252e%252e", "..;", "..;x=y", "..%3b", ".;", "..%00", "..%09",
  "%c0%ae%c0%ae", "%ef%bc%8e%ef%bc%8e", "..%5c", "..%2f", ". .", "%20..", "..%20", ".%0a.",
];
// biome-ignore format: one list, not one spelling a line
const NAMES = [
  "admin", "ADMIN", "Admin", "%61dmin", "%41dmin", "adm%69n", "%2561dmin", "admin%20", "%20admin", "admin%00",
  "admin;", "admin;x", "admin.", "admin%2e", "admin%3f", "admin%23", "admin?", "admin#", "admın", "%ef%bd%81dmin",
  "admin%0a", "a%0ddmin", "admin%", "admin%2", "admin%zz", "admin~", "admin%7f", "admin%ff", "admin%c3%28", "admin,",
];

function variants() {
  const paths = new Set();
  for (const slash of SLASHES) {
    for (const form of ["{}admin/x", "/admin{}x", "/open{}admin/x", "/open/..{}admin", "/users{}ada", "{}open/x"])
      paths.add(form.replace("{}", slash));
  }
  for (const dots of DOTS) {
    for (const form of ["/open/{}/admin/x", "/{}/admin/x", "/open/x/{}/{}/admin", "/admin/{}/open/x", "/open/{}"])
      paths.add(form.replaceAll("{}", dots));
  }
  for (const name of NAMES) {
    for (const form of ["/{}/x", "/{}", "/open/{}/x", "/users/{}"]) paths.add(form.replace("{}", name));
  }
  // biome-ignore format: one list, not one spelling a line
  const whole = [
    "/", "?", "/?", "//evil.example/admin", "http://evil.example/admin/x", "https://edge/admin/x", "admin/x",
    "/open/x?/../admin", "/open/x#/../admin", "/open/x?a=%2fadmin", `/open/${"a".repeat(16_384)}`,
    `/open/${"%61".repeat(3_000)}`, `/open/x?${"q".repeat(20_000)}`, "/open/\u00e9", "/open/%c3%a9", "/open/%F0%9F%98%80",
  ];
  for (const path of whole) paths.add(path);
  return [...paths];
}

// Returns the paths that lenient servers may read in one: decoded repeatedly, with backslashes turned,
// parameters and blanks removed, dots resolved, in lower case.
function readings(path) {
  const found = new Set();
  let text = path.split(/[?#]/)[0];
  for (let round = 0; round < 4; round += 1) {
    for (const turned of [text, text.replaceAll("\\", "/")]) {
      for (const bare of [turned, turned.replace(/;[^/]*/g, ""), turned.replace(/[\s\0].*$/, "")]) {
        const out = [];
        for (const segment of bare.toLowerCase().split("/")) {
          if (segment === "..") out.pop();
          else if (segment !== "." && segment !== "") out.push(segment.trim().replace(/\.+$/, ""));
        }
        found.add(`/${out.join("/")}`);
      }
    }
    try {
      text = decodeURIComponent(text);
    } catch {
      text = unescape(text);
    }
  }
  return [...found];
}

describe("spellings of paths", () => {
  let web, edge, token, webKey;

  before(async () => {
    const auth = await startUpstream(scope);
    web = await startUpstream(scope);
    const issuer = (await createIssuer()).publishOn(auth);
    webKey = makeAssertionKey();
    edge = await startEdge(scope, {
      auth,
      policy: "echo",
      vars: { UPSTREAM_WEB_URL: web.url, ASSERTION_KEYS_WEB: webKey },
    });
    token = await issuer.accessToken({ sub: "ada", roles: ["user"] });
    assert.equal((await edge.get("/ready")).status, 200);
  });

  // As bytes, so that nothing normalises the path.
  async function ask(path) {
    const raw = Buffer.from(path, "utf8").toString("latin1");
    const bytes = `GET ${raw} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\nAuthorization: Bearer ${token}\r\n\r\n`;
    const text = await sendBytes(edge.url, Buffer.from(bytes, "latin1"));
    return Number(/^HTTP\/1\.1 (\d{3})/.exec(text)?.[1] ?? 0);
  }

  test("each is refused, or arrives as decided and is not the path of another user", async (t) => {
    const paths = variants();
    const count = { passed: 0, refused: 0 };
    for (const path of paths) {
      web.forget();
      const status = await ask(path);
      const [seen] = web.requests;
      if (seen === undefined) {
        assert.ok([0, 400, 403, 404, 414].includes(status), `${path}: ${status}`);
        count.refused += 1;
        continue;
      }
      count.passed += 1;
      const { claims } = await readAssertion(seen.assertion, webKey, "web");
      assert.equal(claims.htu, seen.path, path);
      const own = seen.path.startsWith("/open/") || seen.path === "/users/ada" || seen.path.startsWith("/users/ada?");
      assert.ok(own, `${path} arrived as ${seen.path}`);
      for (const reading of readings(seen.path)) {
        assert.ok(
          !/^\/admin(?:\/|$)/.test(reading),
          `${path} arrived as ${seen.path}, which could be read as ${reading}`,
        );
        if (seen.path.startsWith("/open/"))
          assert.ok(reading === "/open" || reading.startsWith("/open/"), `${seen.path} could be read as ${reading}`);
      }
    }
    t.diagnostic(`${paths.length} spellings: ${count.passed} passed, ${count.refused} were refused`);
    assert.ok(paths.length >= 300 && count.passed >= 20 && count.refused >= 200);
  });
});
