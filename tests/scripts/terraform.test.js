// deploy/terraform: well-formed, with the bindings of wrangler.toml. Its provider cannot be fetched offline, so only the
// parts that need none are evaluated; the resources are compared as text.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";

import { environmentOf } from "../../cli/lib/environments.js";
import { readWranglerFile } from "../../cli/lib/project-policy.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";

const FOLDER = join(ROOT, "deploy", "terraform");
const TERRAFORM = ["tofu", "terraform"].find((name) => spawnSync(name, ["version"]).error === undefined);
const skip = TERRAFORM === undefined ? "neither tofu nor terraform is installed" : false;

const VALUES = {
  account_id: "a",
  zone_id: "z",
  hostname: "gateway.shop.dev",
  modules_folder: "dist",
  vars: { UPSTREAM_AUTH_URL: "https://auth.shop.dev" },
  secrets: { ASSERTION_KEYS_AUTH: "k1:secret" },
};

function run(cwd, ...args) {
  const env = { ...process.env, CHECKPOINT_DISABLE: "1", TF_IN_AUTOMATION: "1" };
  return spawnSync(TERRAFORM, args, { cwd, env, encoding: "utf8" });
}

// Evaluates the variables and the bindings, which need no provider.
function evaluate(t, values) {
  const folder = temporaryFolder(testScope(t), "terraform");
  for (const name of ["variables.tf", "bindings.tf"]) copyFileSync(join(FOLDER, name), join(folder, name));
  writeFileSync(
    join(folder, "evaluate.tf"),
    'output "all" {\n  sensitive = true\n  value = { bindings = local.bindings, crons = local.crons, ' +
      "date = local.compatibility_date, migration = var.migration }\n}\n",
  );
  writeFileSync(join(folder, "terraform.tfvars.json"), JSON.stringify({ ...VALUES, ...values }));
  const applied = run(folder, "apply", "-auto-approve", "-input=false", "-no-color");
  if (applied.status !== 0) return { fault: applied.stdout + applied.stderr };
  return { out: JSON.parse(run(folder, "output", "-json", "all").stdout) };
}

describe("the Terraform module", () => {
  test("is formatted, and names in its resources only variables and locals that exist", { skip }, () => {
    const { status, stdout } = run(FOLDER, "fmt", "-check", "-recursive");
    assert.equal(status, 0, stdout);
    const text = readdirSync(FOLDER)
      .map((name) => readFileSync(join(FOLDER, name), "utf8"))
      .join("\n");
    for (const [, name] of text.matchAll(/\bvar\.(\w+)/g)) assert.ok(text.includes(`variable "${name}" {`), name);
    for (const [, name] of text.matchAll(/\blocal\.(\w+)/g)) assert.match(text, new RegExp(`^ {2}${name} += `, "m"));
    for (const [, type, name] of text.matchAll(/\b(cloudflare_\w+)\.(\w+)\b/g))
      assert.ok(text.includes(`resource "${type}" "${name}" {`), `${type}.${name}`);
  });

  test("has the bindings, variables, date, trigger and migration of wrangler.toml", { skip }, async (t) => {
    // Without the prototypes of the parser.
    const wrangler = structuredClone(await readWranglerFile(ROOT));
    const own = environmentOf(wrangler, "production");
    const { out, fault } = evaluate(t, {});
    assert.equal(fault, undefined);
    const { bindings, crons, date, migration } = out;
    const of = (type) => bindings.filter((binding) => binding.type === type);
    assert.deepEqual(
      of("durable_object_namespace").map(({ name, class_name }) => ({ name, class_name })),
      own.durable_objects.bindings,
    );
    const byName = (one, other) => one.name.localeCompare(other.name);
    assert.deepEqual(
      of("ratelimit").map(({ name, namespace_id, simple }) => ({ name, namespace_id, simple })),
      own.ratelimits.toSorted(byName),
    );
    assert.deepEqual(
      of("version_metadata").map(({ name }) => ({ binding: name })),
      [own.version_metadata],
    );
    const texts = Object.fromEntries(of("plain_text").map(({ name, text }) => [name, text]));
    assert.deepEqual(texts, { ...own.vars, ...VALUES.vars });
    assert.deepEqual(
      of("secret_text").map(({ name, text }) => [name, text]),
      Object.entries(VALUES.secrets),
    );
    const stores = /type += "kv_namespace"\s+name += "(\w+)"/.exec(readFileSync(join(FOLDER, "main.tf"), "utf8"));
    assert.deepEqual(
      own.kv_namespaces.map(({ binding }) => binding),
      [stores[1]],
    );
    assert.deepEqual([crons, date], [wrangler.triggers.crons, wrangler.compatibility_date]);
    const [{ tag, new_sqlite_classes: classes }] = wrangler.migrations;
    assert.equal(wrangler.migrations.length, 1);
    assert.deepEqual([migration.new_tag, migration.new_sqlite_classes], [tag, classes]);
  });

  for (const [what, values, words] of [
    ["the development mode", { vars: { DEVELOPMENT: "true" } }, /DEVELOPMENT must not be true/],
    ["plain HTTP", { vars: { UPSTREAM_A_URL: "https://a.shop.dev, http://b.shop.dev" } }, /Each URL must be https/],
    [
      "two limits with one counter",
      {
        limits: {
          LIMIT_A: { namespace_id: "1", limit: 1, period: 10 },
          LIMIT_B: { namespace_id: "1", limit: 1, period: 10 },
        },
      },
      /namespace id of its own/,
    ],
    ["another period", { limits: { LIMIT_A: { namespace_id: "1", limit: 1, period: 30 } } }, /10 or 60 seconds/],
  ]) {
    test(`refuses ${what}`, { skip }, (t) => {
      assert.match(evaluate(t, values).fault.replace(/[│\s]+/g, " "), words);
    });
  }
});
