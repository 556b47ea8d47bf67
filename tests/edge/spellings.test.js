// Spellings of a path that a service may read as another path: none bypasses a strict rule, an owner is
// compared by the decoded segment, and file names with reserved characters arrive unchanged.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { makeAssertionKey, readAssertion } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { createIssuer } from "../harness/issuer.js";
import { fileScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";

const scope = fileScope();

describe("spellings of a path", () => {
  let web, issuer, edge, webKey;

  before(async () => {
    const auth = await startUpstream(scope);
    web = await startUpstream(scope);
    issuer = (await createIssuer()).publishOn(auth);
    webKey = makeAssertionKey();
    edge = await startEdge(scope, {
      auth,
      policy: "spellings",
      vars: { UPSTREAM_WEB_URL: web.url, ASSERTION_KEYS_WEB: webKey },
    });
    assert.equal((await edge.get("/ready")).status, 200);
  });

  // Returns the status and the path that arrived, which must be the asserted one.
  async function ask(path, token) {
    web.forget();
    const { status } = await edge.get(path, { token });
    const [seen] = web.requests;
    assert.equal(seen !== undefined, status === 200, `${path}: ${status}`);
    if (seen === undefined) return { status };
    const { claims } = await readAssertion(seen.assertion, webKey, "web");
    assert.equal(claims.htu, seen.path, path);
    return { status, path: seen.path };
  }

  test("no spelling of a path bypasses its strict rule beside a looser catch-all", async () => {
    const user = await issuer.accessToken({ sub: "ada", roles: ["user"] });
    const admin = await issuer.accessToken({ sub: "eve", roles: ["admin"] });
    for (const [path, ofUser, ofAdmin] of [
      ["/app/admin", 403, 200],
      ["/app/admin?x=/", 403, 200],
      ["/app/%61dmin", 403, 200],
      ["/app/admin/", 400, 400],
      ["/app/Admin", 400, 400],
      ["/app/ADMIN/", 400, 400],
      ["/app/admin;x", 400, 400],
      ["/app/admin;x/y", 400, 400],
      ["/app/admin%3Bx", 400, 400],
      ["/app/admin.", 400, 400],
      ["/app/admin%20", 400, 400],
      ["/app/%2Fadmin", 400, 400],
      ["/app%2Fadmin", 400, 400],
      ["/app/%2561dmin", 400, 400],
      ["/app/admin%23", 400, 400],
      ["/app/admin%3F", 400, 400],
      ["/app/..%3F", 400, 400],
      ["/app/..%23x", 400, 400],
      // Has no dot segment, but splits when it is decoded.
      ["/app/%3F..%2Fy", 400, 400],
      ["/APP/admin", 404, 404],
      ["/app/jobs:purge", 403, 200],
      ["/app/jobs%3Apurge", 403, 200],
      ["/app/jobs%3apurge", 403, 200],
      ["/app/Jobs%3APurge", 400, 400],
      ["/app/administrators", 200, 200],
      ["/app/admin/users", 200, 200],
      ["/files/secret/plan.pdf", 403, 200],
      ["/files/Secret/plan.pdf", 400, 400],
      ["/files/secret;v=1/plan.pdf", 400, 400],
      ["/files/secret%2Fplan.pdf", 400, 400],
      ["/files/%2Fsecret/plan.pdf", 400, 400],
      ["/files/secret/", 400, 400],
      ["/files/secret%3F", 400, 400],
      ["/files/secret%3Fx/plan.pdf", 400, 400],
      ["/files/secret%23/plan.pdf", 400, 400],
      ["/files/%2573ecret/plan.pdf", 400, 400],
      ["/files/secret%252Fplan.pdf", 400, 400],
      ["/files/secret%253Bv=1/plan.pdf", 400, 400],
      ["/files/secrets%3F", 200, 200],
      // Explicitly allowed by the policy.
      ["/app/reports", 403, 200],
      ["/app/Reports", 200, 200],
    ]) {
      assert.equal((await ask(path, user)).status, ofUser, `${path} of a user`);
      assert.equal((await ask(path, admin)).status, ofAdmin, `${path} of an administrator`);
    }
  });

  test("nothing that a user may call can be read as the administrators' path", async (t) => {
    const token = await issuer.accessToken({ sub: "ada", roles: ["user"] });
    const before = ["", "%2F", ";/", ";x/", "%3B/", "%20/", "./", "x/..%2F", "x/..;/", "%5C", "%252F"];
    const names = ["admin", "Admin", "ADMIN", "%61dmin", "%41dmin", "adm%69n", "%2561dmin", "%25%36%31dmin"];
    // biome-ignore format: one list, not one spelling a line
    const behind = ["", "/", "//", "/.", ";", ";x", ";x/", "%3B", "%253B", ".", "%2E/", "%20", "%20/", "%2F", "%252F", "%00", "%09", "%3F", "%23", "%253F", "?x", "/?x"];
    const isAdmin = (path) => {
      let text = path.split("?")[0];
      for (let layer = 0; layer < 4; layer += 1) {
        const segments = text
          .toLowerCase()
          .replaceAll("\\", "/")
          .split(/[?#\0]/)[0]
          .split("/");
        const names = segments
          .map((segment) => segment.split(";")[0].replace(/[.\s]+$/, ""))
          .filter((name) => name !== "");
        if (names.join("/") === "app/admin") return true;
        text = decodeURIComponent(text.replace(/%(?![0-9a-f]{2})/gi, "%25"));
      }
      return false;
    };
    const count = { passed: 0, refused: 0 };
    for (const start of before) {
      for (const name of names) {
        for (const end of behind) {
          const path = `/app/${start}${name}${end}`;
          const { status, path: seen } = await ask(path, token);
          assert.ok([200, 400, 403, 404].includes(status), `${path}: ${status}`);
          if (seen === undefined) count.refused += 1;
          else {
            count.passed += 1;
            assert.ok(!isAdmin(seen), `${path} arrived as ${seen}`);
          }
        }
      }
    }
    t.diagnostic(`${count.passed} passed as other paths, ${count.refused} were refused`);
    assert.ok(count.refused > 1000);
  });

  test("an owner's id is compared with the decoded segment", async () => {
    for (const [sub, segment, status] of [
      ["auth0|64f", "auth0%7C64f", 200],
      ["zoë", "zo%C3%AB", 200],
      ["zo%C3%AB", "zo%C3%AB", 403],
      ["zo%C3%AB", "zo%25C3%25AB", 200],
      ["ada@example.com", "ada%40example.com", 200],
      ["ada@example.com", "ada@example.com", 200],
      ["ada%40example.com", "ada%40example.com", 403],
      ["ada%40example.com", "ada%2540example.com", 200],
      ["ada@example.com", "ada%2540example.com", 403],
      ["Ada Lovelace", "Ada%20Lovelace", 200],
      ["Ada+Lovelace", "Ada%20Lovelace", 403],
      ["a+b", "a%2Bb", 200],
      ["100%", "100%25", 200],
      ["a/b", "a%2Fb", 400],
      // The runtime leaves it raw, and RFC 3986 forbids it.
      ["auth0|64f", "auth0|64f", 400],
      ["ada", "Ada", 403],
    ]) {
      const token = await issuer.accessToken({ sub });
      const { status: got, path } = await ask(`/orders/${segment}`, token);
      assert.equal(got, status, `${segment} of ${sub}`);
      // A service that decodes its path once reads the owner's own id.
      if (got === 200) assert.equal(decodeURIComponent(path.slice("/orders/".length)), sub);
    }
  });

  test("a route that forwards encoded paths passes file names on unchanged", async () => {
    const token = await issuer.accessToken({ sub: "ada" });
    for (const name of [
      "C%23.pdf",
      "100%25.pdf",
      "a%2Fb.pdf",
      "what%3F.pdf",
      "[slug].js",
      "chunks/pages/[slug]-0a1b.js",
      "a;v=1.pdf",
      "%5Bslug%5D.js",
      "https:%2F%2Fa.example%2Fx",
      // To a service that decodes first, what follows the ? is the query.
      "%3F..%2Fy",
      "a%252Fb.pdf",
    ]) {
      const { status, path } = await ask(`/files/${name}`, token);
      assert.equal(status, 200, name);
      assert.equal(path, `/files/${name}`);
      const { status: own, path: drive } = await ask(`/drive/ada/${name}`, token);
      assert.equal(own, 200, name);
      assert.equal(drive, `/drive/ada/${name}`);
      assert.equal((await ask(`/drive/eve/${name}`, token)).status, 403, name);
    }
  });

  test("no encoded path leads out of its directory, on any route", async () => {
    const token = await issuer.accessToken({ sub: "ada" });
    for (const path of [
      "/files/x%2F..%2F..%2Fapp/admin",
      "/files/..%2Fapp%2Fadmin",
      "/files/..%2fapp/admin",
      "/files/x%2f%2e%2e%2fy",
      "/files/x%2F.%2Fy",
      "/files/%252e%252e/app/admin",
      "/files/x%252F..%252Fy",
      "/files/%25252e%25252e/y",
      "/files/..;x%2Fy",
      "/files/..%3Bx/y",
      "/files/x/..%3F",
      "/files/..%3Fx/y",
      "/files/x/..%23",
      "/files/x%2F..%23y",
      "/files/..%253F",
      "/files/..%5Cy",
      "/files/x%00.pdf",
      "/files/x%2500.pdf",
      "/files/%c0%ae%c0%ae/y",
      "/drive/eve%2F..%2Fada/x",
      "/health%2F",
      "/_gateway/%2Fx",
    ])
      assert.equal((await ask(path, token)).status, 400, path);
    // An id with a slash matches no owner: a service that decodes first reads Ada's directory.
    const other = await issuer.accessToken({ sub: "ada/x" });
    assert.equal((await ask("/drive/ada%2Fx/y", other)).status, 403);
    // Nor does one with a parameter, which services strip.
    for (const [sub, segment] of [
      ["ada;x", "ada;x"],
      ["ada;x", "ada%3Bx"],
      ["ada?x", "ada%3Fx"],
      ["ada#x", "ada%23x"],
    ]) {
      const token = await issuer.accessToken({ sub });
      assert.equal((await ask(`/drive/${segment}/y`, token)).status, 403, segment);
    }
  });
});
