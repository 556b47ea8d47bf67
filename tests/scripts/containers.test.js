// The containers' files: who reaches what, with which rights, and where each secret comes from. What only a
// container runtime can show (images, networks) is not tested here.

import { strict as assert } from "node:assert";
import { execFileSync } from "node:child_process";
import { appendFileSync, cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { parse, parseAllDocuments } from "yaml";

import { readArguments } from "../../cli/lib/arguments.js";
import { OPTIONS } from "../../cli/serve/settings.js";
import { ROOT } from "../../scripts/lib/paths.js";
import { noPython, python } from "../harness/python.js";

const DEPLOY = join(ROOT, "deploy");
const COMPOSE = join(DEPLOY, "compose");
const KUBERNETES = join(DEPLOY, "kubernetes");

// Without those of the operators' page.
const EDGE_SECRETS = ["ASSERTION_KEYS_AUTH", "ASSERTION_KEYS_USERS", "METRICS_TOKEN"];

// What the gateway reads in /etc/portcullis.
const POLICY = ["gateway.toml", "wrangler.toml"];

const read = (...path) => readFileSync(join(...path), "utf8");
const compose = parse(read(COMPOSE, "compose.yaml"), { merge: true });
const own = Object.entries(compose.services).filter(([name]) => name !== "postgres");
const manifests = readdirSync(KUBERNETES)
  .filter((name) => name !== "kustomization.yaml")
  .flatMap((name) => parseAllDocuments(read(KUBERNETES, name)).map((document) => document.toJS()));
const workloads = manifests.filter(({ kind }) => kind === "Deployment" || kind === "StatefulSet");

// A copy of the folder, in which prepare.sh may write.
function prepared(t) {
  const root = mkdtempSync(join(tmpdir(), "compose-"));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const folder = join(root, "deploy", "compose");
  const files = ["compose.yaml", "databases.sh", "prepare.sh"];
  for (const name of files) cpSync(join(COMPOSE, name), join(folder, name));
  for (const name of POLICY) cpSync(join(ROOT, name), join(root, name));
  const run = (...upstreams) =>
    execFileSync(join(folder, "prepare.sh"), upstreams, { encoding: "utf8", stdio: "pipe" });
  return { folder, run };
}

test("only the gateway is in a network with a way in, and publishes a port on loopback", () => {
  for (const [name, service] of Object.entries(compose.services)) {
    const networks = name === "edge" ? ["public", "services"] : ["services"];
    assert.deepEqual(service.networks, networks, name);
    const port = ["127.0.0.1:$", "{PORTCULLIS_PORT:-8787}:8787"].join("");
    assert.deepEqual(service.ports, name === "edge" ? [port] : undefined, name);
  }
  assert.equal(compose.networks.services.internal, true);
});

test("each program of the project runs without root, capabilities and a writable root file system", () => {
  for (const [name, service] of own) {
    assert.match(service.user, /^\$\{PORTCULLIS_UID:/, name);
    assert.equal(service.read_only, true, name);
    assert.deepEqual(service.cap_drop, ["ALL"], name);
    assert.deepEqual(service.security_opt, ["no-new-privileges:true"], name);
  }
  for (const { metadata, spec } of workloads) {
    const pod = spec.template.spec;
    assert.equal(pod.securityContext.runAsNonRoot, true, metadata.name);
    assert.equal(pod.automountServiceAccountToken, false, metadata.name);
    for (const { securityContext, readinessProbe, livenessProbe, resources } of pod.containers) {
      assert.deepEqual(securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
      assert.ok(readinessProbe && livenessProbe && resources.limits.memory, metadata.name);
    }
  }
  for (const name of ["Containerfile.origin", "Containerfile.edge"]) {
    const text = read(DEPLOY, "containers", name);
    assert.match(text, /^USER 10001:10001$/m, name);
    assert.match(text, /^HEALTHCHECK /m, name);
    // Neither an empty image nor Node's slim one has certificate authorities.
    assert.match(text, /ca-certificates/, name);
  }
});

test("prepare.sh makes each secret of the compose file, private, and keeps what exists", (t) => {
  const { folder, run } = prepared(t);
  assert.match(run(), /docker compose up/);
  const secrets = Object.entries(compose.secrets);
  const made = () => secrets.map(([name]) => read(folder, "secrets", name));
  const before = made();
  assert.equal(new Set(before).size, secrets.length, "no secret is used twice");
  for (const [name, { file }] of secrets) {
    assert.equal(file, `./secrets/${name}`);
    assert.equal(statSync(join(folder, "secrets", name)).mode & 0o077, 0, name);
  }
  assert.deepEqual(readdirSync(join(folder, "secrets")).sort(), secrets.map(([name]) => name).sort());
  const { uid, gid } = statSync(join(folder, "secrets", "MASTER_KEY"));
  assert.equal(read(folder, ".env"), `PORTCULLIS_UID=${uid}\nPORTCULLIS_GID=${gid}\n`);
  assert.deepEqual(readdirSync(join(folder, "policy")).sort(), POLICY);
  for (const name of POLICY) {
    assert.equal(read(folder, "policy", name), read(ROOT, name));
    assert.equal(statSync(join(folder, "policy", name)).mode & 0o777, 0o644);
  }
  appendFileSync(join(folder, "policy", "gateway.toml"), "# changed\n");
  appendFileSync(join(folder, ".env"), "PORTCULLIS_NETWORK=10.9.8\n");
  run();
  assert.deepEqual(made(), before);
  assert.match(read(folder, "policy", "gateway.toml"), /# changed\n$/);
  assert.equal(read(folder, ".env"), `PORTCULLIS_NETWORK=10.9.8\nPORTCULLIS_UID=${uid}\nPORTCULLIS_GID=${gid}\n`);
});

test("prepare.sh makes the secret of an upstream", (t) => {
  const { folder, run } = prepared(t);
  run("shop", "my-shop2");
  for (const name of ["ASSERTION_KEYS_SHOP", "ASSERTION_KEYS_MY_SHOP2"]) {
    assert.match(read(folder, "secrets", name), /^k1:[\w-]{43}\n$/);
    assert.equal(statSync(join(folder, "secrets", name)).mode & 0o077, 0, name);
  }
  assert.throws(() => run("../shop"), /is not the name of an upstream/);
});

test("the gateway restarts after a reload, drains, and reads the policy in a folder", () => {
  const { edge, postgres } = compose.services;
  // Docker never restarts a container with `unless-stopped` after `docker kill --signal HUP`.
  assert.equal(edge.restart, "always");
  // Docker mounts a file by its inode, so a replaced file is not seen.
  assert.ok(edge.volumes.includes("./policy:/etc/portcullis:ro"));
  assert.doesNotMatch(edge.volumes.join(), /\.toml/);
  // Longer than --drain, 30 seconds.
  assert.equal(edge.stop_grace_period, "35s");
  for (const { logging } of [edge, postgres]) assert.ok(logging.options["max-size"]);
  const [{ subnet, gateway }] = compose.networks.public.ipam.config;
  assert.equal(edge.command[1], `${gateway}/32`);
  assert.equal(subnet.replace(".0/28", ".1"), gateway);
});

test("the page's own service is complete, and its policy is valid", (t) => {
  const page = read(ROOT, "docs", "quick-start-compose.md");
  const block = (language) =>
    new RegExp(`^ {3}\`\`\`${language}\\n([^]*?)\\n {3}\`\`\``, "m").exec(page)[1].replace(/^ {3}/gm, "");
  const { services, secrets } = parse(block("yaml"));
  const { cap_drop, networks, read_only, restart, security_opt } = compose.services.users;
  assert.deepEqual(services.shop, {
    ...{ cap_drop, networks, read_only, restart, security_opt },
    image: "shop",
    init: true,
    user: services.shop.user,
    secrets: Object.keys(secrets),
  });
  assert.match(services.shop.user, /^\$\{PORTCULLIS_UID\}:\$\{PORTCULLIS_GID\}$/);
  assert.deepEqual(services.edge.secrets, Object.keys(secrets));
  const { folder, run } = prepared(t);
  run("shop");
  for (const { file } of Object.values(secrets)) assert.ok(existsSync(join(folder, file)));
  const policy = join(folder, "policy", "gateway.toml");
  appendFileSync(policy, `\n${block("toml")}\n`);
  const output = execFileSync(
    process.execPath,
    [join(ROOT, "cli", "bin", "portcullis.js"), "check", "--file", policy],
    {
      encoding: "utf8",
    },
  );
  assert.match(output, /\/orders\/\{user\}/);
});

test("each container mounts the secrets that its variables name, and no other", () => {
  for (const [name, { environment, secrets }] of Object.entries(compose.services)) {
    const named = Object.values(environment).flatMap((value) => /^\/run\/secrets\/(.+)$/.exec(value)?.[1] ?? []);
    // The gateway reads the folder.
    const expected = name === "edge" ? [...EDGE_SECRETS, "OPERATORS_TOKEN"] : named;
    assert.deepEqual([...secrets].sort(), [...new Set(expected)].sort(), name);
    for (const secret of secrets) assert.ok(compose.secrets[secret], secret);
  }
});

test("the quick start makes the secrets that the manifests use", () => {
  const page = read(ROOT, "docs", "quick-start-platform.md");
  for (const { metadata, spec } of workloads) {
    const [{ env }] = spec.template.spec.containers;
    const command = new RegExp(`create secret generic ${metadata.name} ([^]*?)\\n {3}(?:kubectl|\`)`).exec(page);
    const made = [...command[1].matchAll(/--from-literal=([A-Z_]+)=/g)].map(([, key]) => key);
    const files = env.flatMap(({ value }) => /^\/run\/secrets\/(.+)$/.exec(value ?? "")?.[1] ?? []);
    const keys = env.flatMap(({ valueFrom }) => valueFrom?.secretKeyRef.key ?? []);
    if (metadata.name !== "edge") assert.deepEqual([...files, ...keys].sort(), [...made].sort(), metadata.name);
    else assert.deepEqual(made, EDGE_SECRETS);
  }
});

test("the gateway's pod has its state in a folder that it makes, and needs the network of the ingress", () => {
  const { template } = workloads.find(({ metadata }) => metadata.name === "edge").spec;
  const [{ args, volumeMounts, resources }] = template.spec.containers;
  const [, entrypoint] = /^ENTRYPOINT (\[[^\]]+\])$/m.exec(
    read(DEPLOY, "containers", "Containerfile.edge").replaceAll("\\\n", ""),
  );
  const [, , , ...fixed] = JSON.parse(entrypoint);
  const given = (network) => {
    const rest = args.map((value) => (value === "INGRESS-NETWORK" ? network : value));
    return readArguments([...fixed, ...rest], { command: "portcullis serve", options: OPTIONS }).values;
  };
  // The volume's top folder belongs to root.
  const { mountPath } = volumeMounts.find(({ name }) => name === "state");
  assert.equal(given("10.0.0.0/8").state, `${mountPath}/data`);
  assert.equal(template.spec.securityContext.fsGroup, template.spec.securityContext.runAsGroup);
  assert.throws(() => given("INGRESS-NETWORK"), /needs an IP address or a network/);
  // Two edge processes take 420 MB when idle.
  assert.equal(resources.requests.memory, "512Mi");
});

test("the kustomization names each manifest, and a changed policy replaces no pod", () => {
  const { resources, configMapGenerator, generatorOptions } = parse(read(KUBERNETES, "kustomization.yaml"));
  const files = readdirSync(KUBERNETES).filter((name) => name !== "kustomization.yaml");
  assert.deepEqual(resources.toSorted(), files.toSorted());
  const { volumes } = workloads.find(({ metadata }) => metadata.name === "edge").spec.template.spec;
  assert.equal(volumes.find(({ name }) => name === "policy").configMap.name, configMapGenerator[0].name);
  assert.equal(generatorOptions.disableNameSuffixHash, true);
});

test("the manifests are valid by the schemas of Kubernetes", { skip: noPython }, () => {
  assert.ok(workloads.length === 3 && manifests.length > 10);
  assert.deepEqual(python("kubernetes", manifests), []);
  const [wrong] = structuredClone(workloads);
  wrong.spec.template.spec.containers[0].readOnly = true;
  assert.equal(python("kubernetes", [wrong]).length, 1, "an unknown field is a fault");
});

test("each unit is sandboxed, and the services get secrets as credentials", () => {
  const units = readdirSync(join(DEPLOY, "systemd"));
  assert.deepEqual(units.sort(), ["portcullis-auth.service", "portcullis-edge.service", "portcullis-users.service"]);
  const sandbox = (unit) => read(DEPLOY, "systemd", unit).split("\n\n").at(-2).split("\n");
  assert.deepEqual(sandbox("portcullis-auth.service"), sandbox("portcullis-users.service"));
  for (const unit of units) {
    const text = read(DEPLOY, "systemd", unit);
    // The services cannot read the gateway's secrets.
    const user = unit === "portcullis-edge.service" ? "User=portcullis" : "User=portcullis-origin";
    for (const line of ["ProtectSystem=strict", "NoNewPrivileges=yes", "CapabilityBoundingSet=", user])
      assert.ok(text.includes(`\n${line}\n`), `${unit}: ${line}`);
    for (const [, name] of text.matchAll(/_FILE=%d\/(\w+)/g)) assert.match(text, new RegExp(`LoadCredential=${name}:`));
  }
});

test("the gateway's unit checks a policy before a reload, and reads any secret in the folder of the quick start", () => {
  const text = read(DEPLOY, "systemd", "portcullis-edge.service");
  const [check, signal, ...rest] = [...text.matchAll(/^ExecReload=(.+)$/gm)].map(([, command]) => command);
  assert.match(check, /portcullis check --file \/etc\/portcullis\/gateway\.toml/);
  assert.equal(signal, "/bin/kill -HUP $MAINPID");
  assert.deepEqual(rest, []);
  // Credentials are copied at the start of a unit, and a missing one stops it.
  assert.doesNotMatch(text, /^LoadCredential=/m);
  assert.match(text, /--secrets \/etc\/portcullis\/secrets /);
  assert.match(
    read(ROOT, "docs", "quick-start-platform.md"),
    /install -d -m 2750 -g portcullis \/etc\/portcullis\/secrets/,
  );
});

test("the quick start makes the credentials of the services' units", () => {
  const page = read(ROOT, "docs", "quick-start-platform.md");
  const [, made] = /for name in ([A-Z_ ]+); do\n.*origin-secrets/.exec(page);
  const [, copied] = /cp ((?:secrets\/\w+ )+)origin-secrets\//.exec(page);
  const names = [...made.split(" "), ...[...copied.matchAll(/secrets\/(\w+)/g)].map(([, name]) => name)];
  const needed = ["auth", "users"].flatMap((service) => [
    ...read(DEPLOY, "systemd", `portcullis-${service}.service`).matchAll(
      /^LoadCredential=(\w+):\/etc\/portcullis\/origin-secrets\/\1$/gm,
    ),
  ]);
  assert.deepEqual(names.sort(), [...new Set(needed.map(([, name]) => name))].sort());
});
