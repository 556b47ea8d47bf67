// `portcullis serve`: the command around the Worker. EDGE=serve runs the other tests of this folder against it, and
// tests/long/serve.test.js kills it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { once } from "node:events";
import { appendFileSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { request } from "node:https";
import { join } from "node:path";
import { before, describe, test } from "node:test";

import { makeAssertionKey } from "../harness/assertion.js";
import { ask, startServed } from "../harness/edge-served.js";
import { buildFor } from "../harness/edge.js";
import { send } from "../harness/http.js";
import { createIssuer } from "../harness/issuer.js";
import { remember, temporaryFolder } from "../harness/run.js";
import { fileScope, testScope } from "../harness/scope.js";
import { startUpstream } from "../harness/upstream.js";
import { until } from "../harness/wait.js";

const LOGIN = "/api/v1/auth/login";
const ME = "/api/v1/auth/me";

// The loopback addresses of a trusted proxy, which is that of the harness, and of a client.
const PROXY = "127.0.0.9";
const CLIENT = "127.0.0.7";

// That of a client that logs in more often than the limit, and the limit.
const COUNTED = "127.0.0.8";
const LOGINS = 20;

const METRICS_TOKEN = remember("metrics-token-of-the-test");

const scope = fileScope();

async function serve(within, options = {}) {
  const auth = await startUpstream(within);
  const issuer = (await createIssuer()).publishOn(auth);
  const persist = options.persist ?? temporaryFolder(within, "state");
  const lines = [];
  const served = await startServed(within, {
    folder: await buildFor(),
    persist,
    limits: {},
    onLine: (line) => lines.push(JSON.parse(line)),
    ...options,
    bindings: {
      DEVELOPMENT: "true",
      METRICS_TOKEN,
      UPSTREAM_AUTH_URL: auth.url,
      UPSTREAM_USERS_URL: auth.url,
      ASSERTION_KEYS_AUTH: makeAssertionKey(),
      ASSERTION_KEYS_USERS: makeAssertionKey(),
      ...options.bindings,
    },
  });
  within.after(() => served.dispose());
  return { auth, issuer, persist, lines, served };
}

const bearer = (token) => ({ authorization: `Bearer ${token}` });

describe("the served edge", () => {
  let issuer, persist, lines, served;

  before(async () => {
    ({ issuer, persist, lines, served } = await serve(scope, {
      processes: 2,
      limits: { LIMIT_LOGIN: { limit: LOGINS, period: 3600 } },
    }));
  });

  // What the upstream gets of a request.
  const forwarded = async (options) => {
    const answer = await send(served.url, { path: LOGIN, method: "POST", json: {}, ...options });
    assert.equal(answer.status, 200, answer.body);
    return answer.json().headers;
  };

  test("takes the client's address from the connection, and from a header only of a trusted proxy", async () => {
    const headers = {
      "x-forwarded-for": "198.51.100.1",
      "x-forwarded-proto": "https",
      "cf-connecting-ip": "198.51.100.2",
      "true-client-ip": "198.51.100.3",
      "cf-ipcountry": "DE",
      cf_ipcountry: "DE",
    };
    const direct = await forwarded({ headers, localAddress: CLIENT });
    assert.deepEqual([direct["x-forwarded-for"], direct["x-forwarded-proto"]], [CLIENT, "http"]);
    const proxied = await forwarded({ headers, localAddress: PROXY });
    assert.deepEqual([proxied["x-forwarded-for"], proxied["x-forwarded-proto"]], ["198.51.100.1", "https"]);
    for (const seen of [direct, proxied]) {
      const names = Object.keys(seen).filter((name) => /^(?:cf|true)[-_]/.test(name) && name !== "cf-connecting-ip");
      assert.deepEqual(names, []);
      assert.ok(!("cf-connecting-ip" in seen) || seen["cf-connecting-ip"] === seen["x-forwarded-for"]);
    }
  });

  test("takes no address from a header of a peer without an address", async () => {
    const socket = join(persist, "run", "edge-1-0.sock");
    const headers = { "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": "https" };
    const answer = await ask(socket, { method: "POST", path: LOGIN, headers, body: "{}" });
    assert.equal(answer.status, 200, answer.text);
    const seen = answer.json().headers;
    assert.deepEqual([seen["x-forwarded-for"], seen["x-forwarded-proto"]], [undefined, "http"]);
  });

  test("answers a request whose Host is no URL as the gateway does", async () => {
    const headers = { host: "a b", "x-forwarded-proto": "https" };
    const answer = await send(served.url, { path: "/health", headers, localAddress: PROXY });
    assert.equal(answer.status, 400);
  });

  for (const proto of ["http", "https"])
    test(`refuses a path with dot segments, also when a trusted proxy states ${proto}`, async () => {
      const headers = { "x-forwarded-for": "198.51.100.1", "x-forwarded-proto": proto };
      for (const path of [
        "/api/v1/x/../auth/me",
        "/api/v1/./auth/me",
        "/x/%2e%2e/health",
        "/x\\..\\health",
        "/./health",
      ]) {
        const answer = await send(served.url, { path, headers, localAddress: PROXY });
        assert.equal(answer.status, 400, path);
        assert.match(answer.json().code, /^path_/, path);
      }
    });

  test("shares revocations and metrics between processes", async () => {
    const sid = "shared-session";
    const token = await issuer.accessToken({ sid });
    assert.equal((await send(served.url, { path: ME, headers: bearer(token) })).status, 200);
    assert.equal(
      (await send(served.url, { method: "POST", path: "/api/v1/auth/logout", headers: bearer(token), json: {} }))
        .status,
      200,
    );
    // Connections go to either process.
    await until("both processes refuse it", async () => {
      const answers = await Promise.all(
        Array.from({ length: 40 }, () => send(served.url, { path: ME, headers: bearer(token) })),
      );
      return answers.every(({ status }) => status === 401);
    });
    await until("the metrics of both are summed", async () => {
      const { body } = await send(served.url, { path: "/metrics", headers: bearer(METRICS_TOKEN) });
      return /^gateway_requests_total{.*} [1-9]/m.test(body);
    });
  });

  test("counts the requests of a client in all processes together", async () => {
    const login = () =>
      send(served.url, { method: "POST", path: LOGIN, json: {}, localAddress: COUNTED }).then(({ status }) => status);
    const statuses = await Promise.all(Array.from({ length: LOGINS + 10 }, login));
    assert.equal(statuses.filter((status) => status === 200).length, LOGINS);
    assert.equal(statuses.filter((status) => status === 429).length, 10);
  });

  test("writes one JSON object a line, and no secret to the disk", async () => {
    await until("a line", () => lines.some(({ path }) => path === ME));
    const files = readdirSync(persist, { recursive: true, encoding: "utf8" }).map((name) => join(persist, name));
    assert.ok(files.some((name) => name.endsWith("edge.capnp")));
    for (const file of files.filter((name) => statSync(name).isFile()))
      assert.ok(!readFileSync(file).includes(METRICS_TOKEN), file);
    assert.equal(statSync(persist).mode & 0o777, 0o700);
  });

  test("refuses a second command for its state, also while its owner process does not listen", async () => {
    rmSync(join(persist, "run", "control.sock"));
    const second = serve(scope, { persist });
    await assert.rejects(second, /Another portcullis serve uses this --state folder/);
  });

  test("refuses a port that is in use", async () => {
    const listen = new URL(served.url).host;
    await assert.rejects(serve(scope, { listen }), /cannot be listened at \(EADDRINUSE\)/);
  });
});

test("while the owner process does not answer, an edge process counts alone", async (t) => {
  const { served } = await serve(testScope(t), { limits: { LIMIT_LOGIN: { limit: 5, period: 3600 } } });
  const { owner } = served.processes();
  const login = () => send(served.url, { method: "POST", path: LOGIN, json: {} }).then(({ status }) => status);
  const logIn = (times) => Promise.all(Array.from({ length: times }, login));
  process.kill(owner, "SIGSTOP");
  try {
    const statuses = await logIn(15);
    assert.equal(statuses.filter((status) => status === 200).length, 5, String(statuses));
    assert.equal(statuses.filter((status) => status === 429).length, 10, String(statuses));
  } finally {
    process.kill(owner, "SIGCONT");
  }
});

test("SIGTERM lets requests end, and the command ends with 0", async (t) => {
  const { auth, served } = await serve(testScope(t));
  let answer;
  auth.answer(LOGIN, (_request, response) => {
    answer = response;
  });
  const asked = send(served.url, { method: "POST", path: LOGIN, json: {} });
  await until("the upstream has the request", () => answer !== undefined);
  const { child } = served;
  const exited = once(child, "exit");
  child.kill("SIGTERM");
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(child.exitCode, null);
  answer.writeHead(200, { "content-type": "application/json" }).end("{}");
  assert.equal((await asked).status, 200);
  assert.deepEqual(await exited, [0, null]);
});

test("a request that does not end is cut off after --drain", async (t) => {
  const { auth, served, lines } = await serve(testScope(t), { drain: 1 });
  let isReached = false;
  auth.answer(LOGIN, () => {
    isReached = true;
  });
  const asked = send(served.url, { method: "POST", path: LOGIN, json: {} }).catch((error) => error.code);
  await until("the upstream has the request", () => isReached);
  const exited = once(served.child, "exit");
  served.child.kill("SIGTERM");
  assert.deepEqual(await exited, [0, null]);
  assert.equal(await asked, "ECONNRESET");
  assert.ok(lines.some(({ message }) => /requests in progress after 1 s and is killed/.test(message ?? "")));
});

const routeOf = (path, more = "") => `[upstreams.auth]\nurl = "http://127.0.0.1:1"\n
[[routes]]\npath = "${path}"\nmethods = ["POST"]\nupstream = "auth"\naccess = "public"\n${more}`;

const LIMITED = `limits = ["few"]\n[limits.few]\nby = "ip"\n`;

const DEVELOPMENT_ISSUER = `[issuers.development]\nissuer = "http://127.0.0.1:1"\naudience = ["api"]
algorithms = ["ES256"]\njwks_url = "http://127.0.0.1:1/jwks.json"\n`;

// Loads \`text\` as the policy. Resolves with the line of the log that begins with \`message\`.
async function reload({ served, lines }, policy, text, message) {
  writeFileSync(policy, text);
  const before = lines.length;
  served.child.kill("SIGHUP");
  return until(`the log says ${message}`, () => lines.slice(before).find((line) => line.message?.startsWith(message)));
}

for (const [what, text, options, said] of [
  ["a limit that is not bound", routeOf("/one", LIMITED), {}, /ratelimits lacks LIMIT_FEW, which the policy needs/],
  [
    "a development issuer without --development",
    routeOf("/one", DEVELOPMENT_ISSUER),
    { bindings: { DEVELOPMENT: "false" } },
    /issuer development is for development/,
  ],
  [
    "a development issuer at an address of the network",
    routeOf("/one", DEVELOPMENT_ISSUER),
    { listen: "0.0.0.0:0" },
    /issuer development is for development; .*--development allows it at a loopback address/,
  ],
])
  test(`a policy with ${what} is not served`, async (t) => {
    const within = testScope(t);
    const policy = join(temporaryFolder(within, "policy"), "gateway.toml");
    writeFileSync(policy, text);
    await assert.rejects(serve(within, { policy, ...options }), said);
  });

test("SIGHUP loads wrangler.toml with the policy, and keeps both if a limit is not bound", async (t) => {
  const within = testScope(t);
  const policy = join(temporaryFolder(within, "policy"), "gateway.toml");
  writeFileSync(policy, routeOf("/one"));
  const running = await serve(within, { policy });
  const { served } = running;
  const statusOf = async (path) => (await send(served.url, { method: "POST", path, json: {} })).status;

  const { lines } = await reload(running, policy, routeOf("/two", LIMITED), "not reloaded");
  assert.match(lines[0], /wrangler\.toml: ratelimits lacks LIMIT_FEW, which the policy needs$/);
  assert.deepEqual([await statusOf("/one"), await statusOf("/two")], [200, 404]);

  appendFileSync(served.project, '[[ratelimits]]\nname = "LIMIT_FEW"\nsimple = { limit = 2, period = 3600 }\n');
  await reload(running, policy, routeOf("/two", LIMITED), "reloaded");
  const statuses = [];
  for (let asked = 0; asked < 4; asked += 1) statuses.push(await statusOf("/two"));
  assert.deepEqual(statuses, [200, 200, 429, 429]);

  appendFileSync(served.project, "not TOML");
  const broken = await reload(running, policy, routeOf("/three"), "not reloaded");
  assert.match(broken.message, /wrangler\.toml cannot be read \(it is no TOML\)/);
  assert.deepEqual([await statusOf("/two"), await statusOf("/three")], [429, 404]);
});

test("settings with which the gateway would refuse each request are not served", async (t) => {
  const within = testScope(t);
  await assert.rejects(serve(within, { bindings: { METRICS_TOKEN: "short" } }), /The gateway is misconfigured/);
  const policy = join(temporaryFolder(within, "policy"), "gateway.toml");
  writeFileSync(policy, routeOf("/one"));
  const secure = "https://127.0.0.1:1";
  const bindings = { DEVELOPMENT: "false", UPSTREAM_AUTH_URL: secure, UPSTREAM_USERS_URL: secure };
  const running = await serve(within, { policy, bindings });
  const statusOf = async (path) => (await send(running.served.url, { method: "POST", path, json: {} })).status;
  assert.deepEqual([await statusOf("/one"), await statusOf("/two")], [502, 404]);
  // Plain HTTP is for development, also on loopback.
  const plain = `[upstreams.shop]\nurl = "http://127.0.0.1:9"\n${routeOf("/two")}`.replace(
    'upstream = "auth"',
    'upstream = "shop"',
  );
  await reload(running, policy, plain, "not reloaded: The gateway is misconfigured");
  assert.deepEqual([await statusOf("/one"), await statusOf("/two")], [502, 404]);
});

test("SIGHUP loads the policy, and keeps the one in use if it has mistakes", async (t) => {
  const within = testScope(t);
  const folder = temporaryFolder(within, "policy");
  const policy = join(folder, "gateway.toml");
  writeFileSync(policy, routeOf("/one"));
  const running = await serve(within, { policy });
  const { served } = running;
  const statusOf = async (path) => (await send(served.url, { method: "POST", path, json: {} })).status;
  assert.deepEqual([await statusOf("/one"), await statusOf("/two")], [200, 404]);
  await reload(running, policy, "nonsense", "not reloaded");
  assert.equal(await statusOf("/one"), 200);

  // No request fails while the processes change.
  let isOver = false;
  const statuses = new Set();
  const asking = (async () => {
    while (!isOver) statuses.add((await send(served.url, { path: "/health" })).status);
  })();
  await reload(running, policy, routeOf("/two"), "reloaded");
  isOver = true;
  await asking;
  assert.deepEqual([...statuses], [200]);
  assert.deepEqual([await statusOf("/one"), await statusOf("/two")], [404, 200]);
});

test("the keys of issuers are fetched at the start, before a request needs them", async (t) => {
  const within = testScope(t);
  const users = await startUpstream(within);
  const bindings = { UPSTREAM_USERS_URL: users.url };
  const { auth, issuer, served } = await serve(within, { hasCron: true, bindings });
  const isFetched = () => auth.requests.some(({ path }) => path === "/.well-known/jwks.json");
  await until("the keys are fetched", isFetched);
  const { keys } = await until("they are stored", async () => {
    const list = await served.kv().list();
    return list.keys.length > 0 && list;
  });
  assert.equal(keys.length, 1);
  await auth.stop();
  const claims = issuer.claims();
  const token = await issuer.sign(claims);
  const answer = await send(served.url, { path: `/api/v1/users/${claims.sub}`, headers: bearer(token) });
  assert.equal(answer.status, 200, answer.body);
});

test("HTTPS is served with the given certificate", async (t) => {
  const within = testScope(t);
  const folder = temporaryFolder(within, "tls");
  const [cert, key] = ["cert.pem", "key.pem"].map((name) => join(folder, name));
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const made = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
  execFileSync("openssl", ["req", ...made, "-keyout", key, "-out", cert, ...subject], { stdio: "ignore" });
  const { served } = await serve(within, { tls: { cert, key } });
  const { port } = new URL(served.url);
  // What the upstream gets of a request from an address.
  const forwarded = (localAddress) =>
    new Promise((resolve, reject) => {
      const options = { host: "127.0.0.1", port, servername: "localhost", ca: readFileSync(cert), localAddress };
      const headers = { "content-type": "application/json", "x-forwarded-for": "198.51.100.1" };
      const asked = request({ ...options, method: "POST", path: LOGIN, headers }, async (answer) => {
        let text = "";
        for await (const part of answer.setEncoding("utf8")) text += part;
        resolve(answer.statusCode === 200 ? JSON.parse(text).headers : answer.statusCode);
      });
      asked.on("error", reject);
      asked.end("{}");
    });
  // A client of TLS has an address, too.
  for (const [from, expected] of [
    [CLIENT, CLIENT],
    [PROXY, "198.51.100.1"],
  ]) {
    const headers = await forwarded(from);
    assert.deepEqual([headers["x-forwarded-for"], headers["x-forwarded-proto"]], [expected, "https"]);
  }
});
