// The README's own service behind the gate, run as it is written there.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { ROOT, TARGET } from "../../scripts/lib/places.js";
import { probePort } from "../../scripts/lib/ports.js";
import { createProcesses } from "../../scripts/lib/processes.js";
import { makeAssertion, makeAssertionKey } from "../harness/assertion.js";
import { startEdge } from "../harness/edge.js";
import { send } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

// The first block of a language in a text, without its indent.
function block(text, language) {
  const found = new RegExp(`^( *)\`\`\`${language}\\n([^]*?)^ *\`\`\`$`, "m").exec(text);
  return found[2].replaceAll(new RegExp(`^${found[1]}`, "gm"), "");
}

test("the README's service and policy work together, and alone it answers nobody", async (t) => {
  const scope = testScope(t);
  const section = readFileSync(join(ROOT, "README.md"), "utf8").split("## In front of your own service")[1];
  const port = await probePort(0);
  const onPort = (text) => {
    assert.match(text, /9000/);
    return text.replaceAll("9000", String(port));
  };

  // Below the checkout, where `jose` is found.
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
