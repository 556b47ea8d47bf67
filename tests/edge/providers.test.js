// The snippets of docs/providers.md in one policy, unchanged, with the documents that the providers serve.
// The native tests check the same tokens.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { ROOT } from "../../scripts/lib/paths.js";
import { makeAssertionKey, readAssertion } from "../harness/assertion.js";
import { onlyOnPlatform } from "../harness/edge-served.js";
import { startEdge } from "../harness/edge.js";
import { remember } from "../harness/run.js";
import { fileScope } from "../harness/scope.js";
import { makeProviders } from "../vectors/providers.js";

const APP = "https://app.example";
const PAGE = readFileSync(join(ROOT, "docs", "providers.md"), "utf8");
const NAMES = makeProviders(0).map(({ name }) => name);

const scope = fileScope();

// The snippets, and for each a route that accepts only its tokens.
function policy() {
  const snippets = [...PAGE.matchAll(/^```toml\n([\s\S]*?)^```$/gm)].map(([, snippet]) => snippet).join("\n");
  const names = [...snippets.matchAll(/^\[issuers\.([a-z0-9-]+)\]$/gm)].map(([, name]) => name);
  const routes = names.map(
    (name) => `
[[routes]]
path = "/${name}"
methods = ["GET"]
upstream = "app"
access = "user"
issuers = ["${name}"]
`,
  );
  return `${snippets}\n[upstreams.app]\nurl = "${APP}"\n${routes.join("")}`;
}

// The hosts of the providers are simulated in Miniflare.
describe("the snippets of docs/providers.md", { skip: onlyOnPlatform("simulated hosts") }, () => {
  const forwarded = [];
  const key = makeAssertionKey();
  const ask = (route, { header, token }) =>
    edge.get(`/${route}`, header === undefined ? { token } : { headers: { [header]: token } });
  let edge, providers, documents;

  before(async () => {
    const outside = ({ url, headers }) => {
      if (url.startsWith(APP)) {
        forwarded.push(Object.fromEntries(headers));
        return { json: {} };
      }
      const body = documents[url];
      return body === undefined ? { status: 404, body: "" } : { body };
    };
    edge = await startEdge(scope, {
      policy: { text: policy() },
      vars: { ASSERTION_KEYS_APP: key, DEVELOPMENT: undefined },
      outside,
    });
    // Made now: the shortest of them is valid for a minute.
    providers = makeProviders(Math.floor(Date.now() / 1000));
    documents = Object.assign({}, ...providers.map((provider) => provider.documents));
  });

  for (const name of NAMES) {
    test(`a token of ${name} is accepted with its snippet`, async () => {
      const failures = [];
      const { header, cases } = providers.find((one) => one.name === name);
      for (const { name: what, token, expected, ...owner } of cases) {
        forwarded.length = 0;
        const answer = await ask(name, { header, token: remember(token) });
        const said = answer.status === 200 ? "ok" : answer.json().code;
        if (said !== expected || forwarded.length !== (expected === "ok" ? 1 : 0)) {
          failures.push(`${what}: ${answer.status} ${said}`);
        }
        const [seen] = forwarded;
        if (seen === undefined) continue;
        const { claims } = await readAssertion(seen["x-gateway-assertion"], key, "app");
        const identity = {
          user_id: seen["x-user-id"],
          email: seen["x-user-email"] ?? null,
          roles: seen["x-user-roles"],
        };
        assert.deepEqual(identity, owner, what);
        assert.deepEqual([claims.sub, claims.email ?? null], [owner.user_id, owner.email], what);
        // Unchanged, with their commas.
        assert.equal(claims.roles.join(), decodeURIComponent(owner.roles), what);
      }
      assert.deepEqual(failures, []);
    });
  }

  test("no token of one provider opens the route of another", async () => {
    forwarded.length = 0;
    for (const { name, header, cases } of providers) {
      const { token } = cases.find(({ expected }) => expected === "ok");
      for (const other of providers.filter((other) => other.name !== name)) {
        const { status } = await ask(other.name, { header, token });
        assert.equal(status, header === other.header ? 403 : 401, `${name} at ${other.name}`);
      }
    }
    assert.deepEqual(forwarded, []);
  });

  test("each provider has its snippet and its test on the page", () => {
    assert.ok(NAMES.length >= 12);
    for (const name of NAMES)
      assert.match(PAGE, new RegExp(`\\*a token of ${name} is accepted with its\\s+snippet\\*`));
  });
});
