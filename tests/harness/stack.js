// Starts the auth service, the user service and the edge under wrangler dev as `npm start` does, on free
// ports and in a temporary data directory.
//
//   const scope = fileScope();
//   before(async () => { stack = await startStack(scope); });
//
//   stack.edge.url, stack.auth.url, stack.users.url
//   await stack.send({ method, path, headers, json })      through the edge, see http.js
//   await stack.register(), await stack.login(account)     a new account, and its tokens
//   await stack.loginAsAdmin()                             creates an administrator; its tokens
//   await stack.auth.stop(); await stack.auth.start();     restarts it on the same port and database
//   await stack.edge.restart()                             a new isolate, the same KV
//   stack.output("edge")                                   its log so far
//   stack.data                                             the data directory
//
// register and login record passwords and tokens as secrets of the run; a test records others with
// remember().

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { hasPackages } from "../../scripts/lib/install.js";
import { ORIGIN, ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { ensureSecrets } from "../../scripts/lib/secrets.js";
import { waitUntilReady } from "../../cli/lib/readiness.js";
import { NAMES, describeServices, startService } from "../../scripts/lib/services.js";
import { compileOrigin } from "../../scripts/lib/setup.js";
import { buildFor } from "./edge.js";
import { send } from "./http.js";
import { RUN, remember, temporaryFolder } from "./run.js";
import { shiftClock } from "./shifted-clock.js";

let count = 0;

/**
 * `env` overrides the environment. Direct mode is off, as in a deployment. `edgeAheadMs` is how far
 * the gateway's clock is ahead of the services' clocks; with it, `await stack.shiftEdgeClock(aheadMs)`
 * restarts the gateway with another difference.
 * @param {import("./scope.js").Scope} scope
 * @param {{ env?: NodeJS.ProcessEnv, edgeAheadMs?: number }} [options]
 */
export async function startStack(scope, { env = {}, edgeAheadMs } = {}) {
  if (!hasPackages()) throw new Error("npm packages are not those of package-lock.json; run: npm run setup");
  if (!process.env.TEST_BUILT) await compileOrigin();
  await buildFor(undefined);
  const data = temporaryFolder(scope, "stack");
  const processes = createProcesses();
  scope.after(() => processes.stopAll());
  count += 1;
  const logs = join(RUN, "logs", `stack-${process.pid}-${count}`);
  mkdirSync(logs, { recursive: true });

  const ports = {};
  // Chosen before the start, because each service gets the URLs of the others.
  for (const name of NAMES) ports[name] = await probePort(0);
  const secrets = ensureSecrets(data);
  for (const value of Object.values(secrets.env)) {
    remember(value);
    remember(value.slice(value.indexOf(":") + 1));
  }
  const services = describeServices({
    data,
    ports,
    secrets,
    env: { ...process.env, CI: "true", AUTH_DIRECT: "off", ...env },
  });
  const clock = edgeAheadMs === undefined ? undefined : shiftClock(scope, edgeAheadMs);
  if (clock !== undefined) {
    // Wrangler takes the entry module as its first argument, and looks for its configuration next to it.
    const { args } = services.edge;
    args.splice(args.indexOf("dev") + 1, 0, clock.entry, "--config", join(ROOT, "wrangler.toml"));
  }

  const stack = {
    data,
    logs,
    secrets: secrets.env,
    output: (name) => readFileSync(join(logs, `${name}.log`), "utf8"),
    send: (request) => send(services.edge.url, request),
    // Asks the auth service as the user service does.
    async internal(method, path) {
      const secret = stack.secrets.SERVICE_SECRET_USER_SERVICE;
      const issued = await send(stack.auth.url, {
        method: "POST",
        path: "/api/v1/auth/token",
        headers: {
          authorization: `Basic ${remember(Buffer.from(`user-service:${secret}`).toString("base64"))}`,
          "content-type": "application/x-www-form-urlencoded",
        },
        body: "grant_type=client_credentials&audience=auth-service",
      });
      const token = remember(issued.json().access_token);
      const headers = { authorization: `Bearer ${token}`, "x-service-caller": "user-service" };
      return send(stack.auth.url, { method, path, headers });
    },
    async shiftEdgeClock(aheadMs) {
      clock.set(aheadMs);
      await stack.edge.restart();
    },
    async register(changes = {}) {
      const account = {
        email: `user-${randomBytes(6).toString("hex")}@example.com`,
        password: remember(`pass phrase ${randomBytes(9).toString("base64url")}`),
        first_name: "Ada",
        last_name: "Lovelace",
        ...changes,
      };
      const answer = await stack.send({ method: "POST", path: "/api/v1/auth/register", json: account });
      return { account, answer };
    },
    async login({ email, password }) {
      const answer = await stack.send({
        method: "POST",
        path: "/api/v1/auth/login",
        json: { email, password },
      });
      if (answer.status !== 200) return { answer };
      const { access_token: accessToken, refresh_token: refreshToken, user } = answer.json();
      remember(accessToken);
      remember(refreshToken);
      return { answer, accessToken, refreshToken, user, bearer: { authorization: `Bearer ${accessToken}` } };
    },
    async loginAsAdmin(email = "root@example.com") {
      const password = remember(`pass phrase ${randomBytes(9).toString("base64url")}`);
      createAdmin({ email, password, data });
      return stack.login({ email, password });
    },
  };

  for (const name of NAMES) {
    const service = services[name];
    let running;
    stack[name] = {
      url: service.url,
      get pid() {
        return running.pid;
      },
      // Does not wait: the edge becomes ready only after auth has started.
      begin() {
        running = startService(processes, service, { logs });
      },
      ready: () => waitUntilReady(service, running),
      async start() {
        stack[name].begin();
        await stack[name].ready();
      },
      stop: () => running.stop(),
      async restart() {
        await running.stop();
        await stack[name].start();
      },
    };
  }
  for (const name of NAMES) stack[name].begin();
  await Promise.all(NAMES.map((name) => stack[name].ready()));
  return stack;
}

// Creates an administrator with the service's own command.
export function createAdmin({ email, password, data }) {
  const { status, stderr } = spawnSync(
    ORIGIN,
    ["admin", "create", "--email", email, "--password-file", "-", "--data-dir", data],
    { input: `${password}\n`, encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`admin create failed: ${stderr}`);
}
