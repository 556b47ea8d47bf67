// Starts both services behind the gateway for schemathesis, which generates requests from their OpenAPI
// documents and checks every answer against them. Rate limits are disabled; everything else is as shipped.
//
//   const services = await startForFuzzing(scope);
//   const { ok, output } = await services.fuzz("auth", "client", { examples: 40 });

import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { dirname, join } from "node:path";

import { ORIGIN, PYTHON, ROOT } from "../../scripts/lib/paths.js";
import { probePort } from "../../cli/lib/ports.js";
import { createProcesses } from "../../cli/lib/processes.js";
import { ensureSecrets } from "../../scripts/lib/secrets.js";
import { waitUntilReady } from "../../cli/lib/readiness.js";
import { describeServices, startService } from "../../scripts/lib/services.js";
import { compileOrigin } from "../../scripts/lib/setup.js";
import { startEdge } from "./edge.js";
import { RUN, remember, temporaryFolder } from "./run.js";
import { createAdmin } from "./stack.js";

const FOREIGN = join(ROOT, "tests", "foreign");

// Routes that are called at the service's own port, not through the gateway.
const INSIDE = "^/(health|ready|metrics)$|^/api/v1/internal/|^/api/v1/auth/(token|introspect)$";

// The service that calls the internal routes of each service.
const CALLERS = { auth: "user-service", users: "auth-service" };
const AUDIENCES = { auth: "auth-service", users: "user-service" };
const SECRETS = { auth: "SERVICE_SECRET_USER_SERVICE", users: "SERVICE_SECRET_AUTH_SERVICE" };

const EMAIL = "root@example.com";

export async function startForFuzzing(scope) {
  if (!process.env.TEST_BUILT) await compileOrigin();
  const data = temporaryFolder(scope, "fuzz");
  const ports = { auth: await probePort(0), users: await probePort(0), edge: 0 };
  const secrets = ensureSecrets(data);
  for (const value of Object.values(secrets.env)) remember(value);
  const url = (name) => `http://127.0.0.1:${ports[name]}`;
  const { ASSERTION_KEYS_AUTH, ASSERTION_KEYS_USERS } = secrets.env;
  const edge = await startEdge(scope, {
    auth: { url: url("auth") },
    users: { url: url("users") },
    vars: { ASSERTION_KEYS_AUTH, ASSERTION_KEYS_USERS },
  });
  ports.edge = Number(new URL(edge.url).port);
  const services = describeServices({ data, ports, secrets });
  const processes = createProcesses();
  scope.after(() => processes.stopAll());
  const logs = join(RUN, "logs", `fuzz-${process.pid}`);
  mkdirSync(logs, { recursive: true });
  for (const name of ["auth", "users"]) {
    await waitUntilReady(services[name], startService(processes, services[name], { logs }));
  }
  const password = remember(`pass phrase ${randomBytes(9).toString("base64url")}`);
  createAdmin({ email: EMAIL, password, data });

  return {
    /**
     * @param {"auth" | "users"} service
     * @param {"client" | "inside"} side routes through the gateway, or the internal ones
     * @param {{ examples: number, random?: boolean, onLine?: (text: string) => void }} options
     */
    async fuzz(service, side, { examples, random, onLine = () => {} }) {
      const args = [
        ...["--config-file", join(FOREIGN, "schemathesis.toml")],
        ...["run", `${services[service].url}/openapi.json`],
        ...["--url", side === "client" ? edge.url : services[service].url],
        ...[side === "client" ? "--exclude-path-regex" : "--include-path-regex", INSIDE],
        ...["--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"],
        ...["--max-examples", String(examples), "--no-color"],
        ...(random ? ["--generation-database", "none"] : ["--generation-deterministic"]),
      ];
      const child = spawn(join(dirname(PYTHON), "schemathesis"), args, {
        cwd: data,
        env: {
          ...process.env,
          SCHEMATHESIS_HOOKS: "api_hooks",
          PYTHONPATH: FOREIGN,
          PYTHONDONTWRITEBYTECODE: "1",
          DATA_DIR: data,
          FUZZ_EDGE: edge.url,
          FUZZ_AUTH: services.auth.url,
          FUZZ_EMAIL: EMAIL,
          FUZZ_PASSWORD: password,
          FUZZ_PROGRAM: ORIGIN,
          FUZZ_SERVICE: CALLERS[service],
          FUZZ_AUDIENCE: AUDIENCES[service],
          FUZZ_SERVICE_SECRET: secrets.env[SECRETS[service]],
        },
        stdio: ["ignore", "pipe", "pipe"],
      });
      scope.after(() => child.kill());
      let output = "";
      for (const stream of [child.stdout, child.stderr]) {
        stream.setEncoding("utf8").on("data", (text) => {
          output += text;
          onLine(text);
        });
      }
      const code = await new Promise((resolve) => child.on("close", resolve));
      const count = output.match(/(\d+) generated, (\d+) passed/);
      return { ok: code === 0, output, generated: Number(count?.[1] ?? 0), passed: Number(count?.[2] ?? 0) };
    },
  };
}
