// The real thing: auth service, user service and the edge under wrangler dev, on free
// ports and in a folder of their own, started as `npm start` starts them.
//
//   const scope = fileScope();
//   before(async () => { stack = await startStack(scope); });
//
//   stack.edge.url, stack.auth.url, stack.users.url
//   await stack.send({ method, path, headers, json })      through the edge, see http.js
//   await stack.register(), await stack.login(account)     a new account; its tokens
//   await stack.auth.stop(); await stack.auth.start();     the same port and database again
//   await stack.edge.restart()                             a new isolate, the same KV
//   stack.output("edge")                                   what it has logged so far
//   stack.data                                             the data folder
//
// Passwords and tokens that pass through register and login are remembered as
// secrets of the run; others are the test's to remember().

import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

import { hasPackages } from "../../scripts/lib/install.js";
import { probePort } from "../../scripts/lib/ports.js";
import { createProcesses } from "../../scripts/lib/processes.js";
import { ensureSecrets } from "../../scripts/lib/secrets.js";
import { NAMES, describeServices, startService, waitUntilReady } from "../../scripts/lib/services.js";
import { compileOrigin } from "../../scripts/lib/setup.js";
import { buildFor } from "./edge.js";
import { send } from "./http.js";
import { RUN, remember, temporaryFolder } from "./run.js";

let count = 0;

// `env` is what an operator would set beside the usual. Direct mode is off, as in a deployment.
export async function startStack(scope, { env = {} } = {}) {
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
  // Fixed beforehand, because each service is told where the other is.
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

  const stack = {
    data,
    logs,
    secrets: secrets.env,
    output: (name) => readFileSync(join(logs, `${name}.log`), "utf8"),
    send: (request) => send(services.edge.url, request),
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
  };

  for (const name of NAMES) {
    const service = services[name];
    let running;
    stack[name] = {
      url: service.url,
      get pid() {
        return running.pid;
      },
      // Does not wait: who waits for the edge's keys must have started auth, too.
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
