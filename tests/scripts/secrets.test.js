// Local secrets: generated once, readable by their owner only, the same on both sides of the assertion, and
// never overwritten.

import assert from "node:assert/strict";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { DEFAULT_DATA, ROOT } from "../../scripts/lib/paths.js";
import { parseVars } from "../../cli/lib/vars.js";
import { ensureSecrets, secretFiles } from "../../scripts/lib/secrets.js";
import { temporaryFolder } from "../harness/run.js";

const read = (file) => readFileSync(file, "utf8");

test("a new folder gets secrets that only its owner can read", (t) => {
  const { files, env } = ensureSecrets(temporaryFolder(t));
  for (const file of Object.values(files)) assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal(Buffer.from(env.MASTER_KEY, "base64url").length, 32);
  for (const name of ["SERVICE_SECRET_AUTH_SERVICE", "SERVICE_SECRET_USER_SERVICE"]) assert.ok(env[name].length >= 32);
  const values = Object.values(env);
  assert.equal(new Set(values).size, values.length, "each is another");
});

test("the edge's assertion keys are the services' and hold 32 bytes", (t) => {
  const { files } = ensureSecrets(temporaryFolder(t));
  const [edge, origin] = [files.edge, files.origin].map((file) => parseVars(read(file)));
  assert.deepEqual(Object.keys(edge).sort(), ["ASSERTION_KEYS_AUTH", "ASSERTION_KEYS_USERS", "DEVELOPMENT"]);
  assert.equal(edge.DEVELOPMENT, "true");
  for (const name of ["ASSERTION_KEYS_AUTH", "ASSERTION_KEYS_USERS"]) {
    assert.equal(edge[name], origin[name]);
    const [kid, secret] = edge[name].split(":");
    assert.match(kid, /^\w+$/);
    assert.equal(Buffer.from(secret, "base64url").length, 32);
  }
});

test("existing files are kept byte for byte", (t) => {
  const folder = temporaryFolder(t);
  const first = ensureSecrets(folder);
  const before = Object.values(first.files).map(read);
  const second = ensureSecrets(folder);
  assert.deepEqual(Object.values(second.files).map(read), before);
  assert.deepEqual(second.env, first.env);
});

test("a file that others can read becomes private", (t) => {
  const folder = temporaryFolder(t);
  const { files } = ensureSecrets(folder);
  chmodSync(files.origin, 0o644);
  ensureSecrets(folder);
  assert.equal(statSync(files.origin).mode & 0o777, 0o600);
});

test("a missing line is added and the developer's own lines stay", (t) => {
  const folder = temporaryFolder(t);
  const { files, env } = ensureSecrets(folder);
  writeFileSync(files.edge, `# mine\nSIGNATURE_BACKEND=rust\nASSERTION_KEYS_AUTH="${env.ASSERTION_KEYS_AUTH}"`);
  ensureSecrets(folder);
  const edge = parseVars(read(files.edge));
  assert.equal(edge.SIGNATURE_BACKEND, "rust");
  assert.equal(edge.ASSERTION_KEYS_USERS, env.ASSERTION_KEYS_USERS);
  assert.match(read(files.edge), /^# mine\n/);
});

test("a second key during a rotation is accepted, two different ones are an error", (t) => {
  const folder = temporaryFolder(t);
  const { files, env } = ensureSecrets(folder);
  const other = "k2:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
  const replace = (file, value) =>
    writeFileSync(file, read(file).replace(/^ASSERTION_KEYS_AUTH=.*$/m, `ASSERTION_KEYS_AUTH="${value}"`));
  replace(files.origin, `${env.ASSERTION_KEYS_AUTH},${other}`);
  ensureSecrets(folder);
  replace(files.edge, `${other},${env.ASSERTION_KEYS_AUTH}`);
  ensureSecrets(folder);
  replace(files.origin, env.ASSERTION_KEYS_AUTH);
  assert.throws(
    () => ensureSecrets(folder),
    (error) => {
      assert.match(error.message, /ASSERTION_KEYS_AUTH differs/);
      assert.ok(!error.message.includes(other) && !error.message.includes(env.ASSERTION_KEYS_AUTH));
      return true;
    },
  );
});

test("the default folder's edge secrets are where wrangler looks by itself", () => {
  assert.equal(secretFiles(DEFAULT_DATA).edge, join(ROOT, ".dev.vars"));
});
