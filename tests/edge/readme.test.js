// The README's own service behind the gate, run as it is written there.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT, TARGET } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { makeAssertion, makeAssertionKey } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { send } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

// Returns a code block of a language in a text, without its indentation.
function block(text, language, index = 0) {
  const all = [...text.matchAll(new RegExp(`^( *)\`\`\`${language}\\n([\\s\\S]*?)^ *\`\`\`$`, "gm"))];
  const [, indent, code] = all[index];
  return code.replaceAll(new RegExp(`^${indent}`, "gm"), "");
}

test("the README's service and policy work together, and without the gateway it refuses everyone", async (t) => {
  const scope = testScope(t);
  const section = readFileSync(join(ROOT, "docs", "getting-started.md"), "utf8").split(
    "## In front of your own service",
  )[1];
  const port = await probePort(0);
  const onPort = (text) => {
    assert.match(text, /9000/);
    return text.replaceAll("9000", String(port));
  };

  // In the checkout, so that `jose` is found.
  const folder = mkdtempSync(join(TARGET, "readme-"));
  scope.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "shop.mjs");
  writeFileSync(file, onPort(block(section, "js")));
  const key = makeAssertionKey();
  const processes = createProcesses();
  scope.after(() => processes.stopAll());
  processes.start("shop", process.execPath, [file], { env: { ...process.env, ASSERTION_KEYS_SHOP: key } });
  const shop = `http://127.0.0.1:${port}`;

  const auth = await startUpstream(scope);
  const issuer = (await createIssuer()).publishOn(auth);
  const policy = `${readFileSync(join(ROOT, "gateway.toml"), "utf8")}\n${onPort(block(section, "toml"))}`;
  const edge = await startEdge(scope, { auth, policy: { text: policy }, vars: { ASSERTION_KEYS_SHOP: key } });
  await until("the service answers", async () => (await send(shop, { path: "/" })).status === 401);

  const token = await issuer.accessToken({ sub: "ada", roles: ["user"] });
  const own = await edge.get("/api/v1/orders/ada?open=1", { token });
  assert.deepEqual([own.status, own.body], [200, "orders of ada, who is user\n"]);
  assert.equal((await edge.get("/api/v1/orders/grace", { token })).status, 403);
  assert.equal((await edge.get("/api/v1/orders/ada")).status, 401);

  const ask = async (claims) => {
    const assertion = await makeAssertion(key, { aud: "shop", htu: "/api/v1/orders/ada", sub: "ada", ...claims });
    return (await send(shop, { path: "/api/v1/orders/ada", headers: { "x-gateway-assertion": assertion } })).status;
  };
  assert.equal(await ask({}), 200);
  assert.equal(await ask({ htu: "/api/v1/orders/grace" }), 401);
  assert.equal(await ask({ htm: "POST" }), 401);
  assert.equal(await ask({ aud: "users" }), 401);
});

test("the further issuers of the documentation open their own routes and none of the shipped ones", async (t) => {
  const scope = testScope(t);
  const section = readFileSync(join(ROOT, "docs", "getting-started.md"), "utf8").split(
    "## In front of your own service",
  )[1];
  const services = {};
  for (const name of ["auth", "users", "shop", "keys"]) services[name] = await startUpstream(scope);
  const { auth, users, shop, keys } = services;
  const own = (await createIssuer()).publishOn(auth);
  // Discovery needs HTTPS; everything else is unchanged.
  const further = {};
  const snippets = [];
  for (const [name, index] of [
    ["company", 1],
    ["partner", 2],
  ]) {
    const snippet = block(section, "toml", index);
    assert.match(snippet, new RegExp(`^\\[issuers\\.${name}\\]`));
    const issuer = /^issuer = "(.*?)"/m.exec(snippet)[1];
    const at = snippet
      .replace(/^discovery = true.*\n/m, "")
      .replace(/^audience = .*$/m, (line) => `${line}\njwks_url = "${keys.url}/${name}"`);
    assert.match(at, /^jwks_url/m);
    further[name] = (await createIssuer({ name: issuer, audience: ["shop-api"] })).publishOn(keys, `/${name}`);
    snippets.push(at);
  }
  const policy = [readFileSync(join(ROOT, "gateway.toml"), "utf8"), block(section, "toml"), ...snippets].join("\n");
  const edge = await startEdge(scope, {
    auth,
    users,
    policy: { text: policy },
    vars: { UPSTREAM_SHOP_URL: shop.url, ASSERTION_KEYS_SHOP: makeAssertionKey() },
  });
  const theirs = {
    company: (sub, roles) =>
      further.company.accessToken({
        sub,
        typ: "Bearer",
        roles: undefined,
        realm_access: { roles },
        token_type: undefined,
      }),
    partner: (sub, roles) =>
      further.partner.accessToken({
        sub,
        azp: "web",
        roles: undefined,
        resource_access: { shop: { roles } },
        token_type: undefined,
      }),
  };
  const mine = (sub, roles) => own.accessToken({ sub, roles });
  const { company, partner } = theirs;
  const shipped = [];
  for (const issuer of [company, partner]) {
    shipped.push(
      ["GET", "/api/v1/users", await issuer("root", ["admin"]), 403],
      ["GET", "/api/v1/users/7", await issuer("7", ["user"]), 403],
      ["DELETE", "/api/v1/users/7", await issuer("7", ["admin"]), 403],
      ["GET", "/api/v1/auth/me", await issuer("7", ["user"]), 403],
      ["GET", "/api/v1/auth/sessions", await issuer("7", ["user"]), 403],
      ["DELETE", "/api/v1/auth/sessions/1", await issuer("7", ["user"]), 403],
      ["POST", "/api/v1/auth/logout", await issuer("7", ["user"]), 403],
      ["POST", "/api/v1/auth/password", await issuer("7", ["user"]), 403],
      ["GET", "/api/v1/auth/validate-token", await issuer("7", ["user"]), 403],
      ["POST", "/api/v1/auth/keys/rotate", await issuer("7", ["admin"]), 403],
      ["GET", "/api/v1/orders/7", await issuer("7", ["admin"]), 403],
    );
  }
  for (const [method, path, token, status] of [
    ["GET", "/api/v1/users", await mine("root", ["admin"]), 200],
    ["GET", "/api/v1/users/7", await mine("7", ["user"]), 200],
    ...shipped,
    ["GET", "/api/v1/reports/7", await partner("7", ["user"]), 200],
    ["GET", "/api/v1/reports/8", await partner("7", ["admin"]), 200],
    ["GET", "/api/v1/reports/8", await partner("7", ["user"]), 403],
    ["GET", "/api/v1/reports/7", await company("7", ["admin"]), 403],
    ["GET", "/api/v1/reports/7", await mine("7", ["admin"]), 403],
  ]) {
    const answer = await edge.send({ method, path, headers: { authorization: `Bearer ${token}` } });
    assert.equal(answer.status, status, `${method} ${path}`);
  }
});
