// Runs the gateway of a project in workerd, with a development issuer and an example service if the policy has
// them.

import { mkdirSync } from "node:fs";
import { join } from "node:path";

import { readArguments, usage, usageError } from "../lib/arguments.js";
import { makeAssertionKeys } from "../lib/assertion-keys.js";
import { DEVELOPMENT_ISSUER, startDevelopmentIssuer } from "../lib/development-issuer.js";
import { reportError } from "../lib/errors.js";
import { EXAMPLE_UPSTREAM, startExampleUpstream } from "../lib/example-upstream.js";
import { openLogFile } from "../lib/log-file.js";
import { upstreamVariable, secretsOf } from "../lib/policy-document.js";
import { HOST, claimPort } from "../lib/ports.js";
import { createProgress } from "../lib/progress.js";
import { PROJECT_FOLDER, SERVING, policyFile } from "../lib/project.js";
import { readCheckedPolicy, readLocalVars, readWranglerFile } from "../lib/project-policy.js";
import { endedBadly, fetchMissing, waitUntilReady } from "../lib/readiness.js";
import { createReloadReporter } from "../lib/reload.js";
import { isEnding } from "../lib/signals.js";
import { writeVars } from "../lib/vars.js";
import { WRANGLER_REQUEST } from "../lib/wrangler.js";
import { buildWorker } from "./build.js";

/**
 * @import { PolicyDocument } from "../lib/policy-document.js"
 * @import { Context } from "../lib/project.js"
 * @import { Vars } from "../lib/vars.js"
 */

export const summary = "runs the gateway on this machine";

/** @param {string} command */
export const help = (command) => `${usage(command, [
  ["", "runs the gateway in workerd on 127.0.0.1 and reloads a changed policy"],
  ["--port 8787", "port of the gateway; 0 takes any free one"],
  ["--logs", "also prints the gateway's log"],
  ["--help", "shows this"],
])}

  [issuers.${DEVELOPMENT_ISSUER}]   this issuer of the policy is started: it has a login page and issues tokens of any
                            user without a password, for development on this machine only
  [upstreams.${EXAMPLE_UPSTREAM}]     this upstream of the policy is started: an example service that checks the
                            assertion, unless ${upstreamVariable(EXAMPLE_UPSTREAM)} names another

Missing secrets are generated into .dev.vars. Ctrl-C ends everything.`;

const DEFAULT_PORT = 8787;

/**
 * @param {string} text
 * @param {string} flag
 */
function readPort(text, flag) {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65535) throw usageError(`${flag} must be a port from 0 to 65535.`);
  return Number(text);
}

/**
 * Generates the local secrets that the policy needs and that are not there.
 * @param {string} folder
 * @param {PolicyDocument} policy
 */
export function ensureLocalSecrets(folder, policy) {
  /** @type {Vars} */
  const wanted = { DEVELOPMENT: "true" };
  for (const { name, algorithm } of secretsOf(policy)) {
    if (algorithm !== undefined) wanted[name] = makeAssertionKeys(algorithm);
  }
  writeVars(join(folder, ".dev.vars"), wanted, "Secrets of the gateway on this machine. Do not share them.");
  return readLocalVars(folder);
}

/**
 * @param {string[]} args
 * @param {Context} context
 */
export async function run(args, context) {
  const { command, env, processes, findWrangler } = context;
  const { values } = readArguments(args, {
    command,
    options: { port: { type: "string", parse: readPort }, logs: { type: "boolean" } },
  });
  if (values.help) return console.log(help(command));
  const wrangler = findWrangler();
  const { folder } = wrangler;
  const progress = createProgress();
  const port = await claimPort("the gateway", "--port", values.port ?? DEFAULT_PORT);
  const url = `http://${HOST}:${port}`;
  const policy = await progress.run("check the policy", async () => {
    const checked = await readCheckedPolicy(context);
    await buildWorker(env);
    return checked;
  });
  const secrets = ensureLocalSecrets(folder, policy);
  const servers = await startServers(policy, { folder, url, secrets });

  const log = openLogFile(join(folder, PROJECT_FOLDER, "logs", "gateway.log"));
  const report = createReloadReporter({
    say: (text) => console.log(text),
    fetchMissing: () => fetchMissing(url),
    secretsFile: ".dev.vars",
    log: `${PROJECT_FOLDER}/logs/gateway.log`,
    policy: policyFile(env),
  });
  let isReady = false;
  const gateway = await progress.run("start the gateway", async (note) => {
    mkdirSync(join(folder, ".wrangler"), { recursive: true });
    const running = processes.start(
      "the gateway",
      wrangler.node,
      [
        ...[wrangler.script, "dev", "--ip", HOST, "--port", String(port), "--inspector-port", "0"],
        ...wrangler.local,
        "--show-interactive-dev-session=false",
      ],
      {
        cwd: folder,
        env: { ...env, ...wrangler.env, [SERVING]: "true" },
        omit: WRANGLER_REQUEST,
        onLine(line) {
          log.write(line);
          if (values.logs) progress.say(line);
          if (isReady) void report(line);
        },
      },
    );
    await waitUntilReady(
      { name: "the gateway", ready: [`${url}/health`, `${url}/ready`], secrets: ".dev.vars" },
      running,
      { note },
    );
    return running;
  });
  isReady = true;
  context.onServing?.();
  progress.close();
  console.log(welcome({ url, policy, elapsed: progress.elapsed() }));
  const ended = await gateway.ended;
  for (const server of servers) server.close();
  return isEnding() || ended.code === 0 ? 0 : reportError(endedBadly(gateway, ended));
}

/**
 * Starts the development issuer and the example service, if the policy has them.
 * @param {PolicyDocument} policy
 * @param {{ folder: string, url: string, secrets: Vars }} options
 */
async function startServers({ issuers = {}, upstreams = {} }, { folder, url, secrets }) {
  const servers = [];
  const issuer = issuers[DEVELOPMENT_ISSUER];
  if (issuer !== undefined) {
    const keyFile = join(folder, PROJECT_FOLDER, "development-issuer.json");
    /** @param {string} user */
    const shown = (user) => `${url}/${EXAMPLE_UPSTREAM in upstreams ? `hello/${encodeURIComponent(user)}` : ""}`;
    servers.push(await startDevelopmentIssuer({ issuer, keyFile, example: shown }));
  }
  const example = upstreams[EXAMPLE_UPSTREAM]?.url;
  const { [upstreamVariable(EXAMPLE_UPSTREAM)]: replaced } = {
    .../** @type {Vars} */ ((await readWranglerFile(folder)).vars ?? {}),
    ...secrets,
  };
  if (example !== undefined && replaced === undefined)
    servers.push(await startExampleUpstream({ url: example, keys: secrets.ASSERTION_KEYS_EXAMPLE ?? "" }));
  return servers;
}

/** @param {{ url: string, policy: PolicyDocument, elapsed: string }} state */
function welcome({ url, policy: { issuers = {}, upstreams = {} }, elapsed }) {
  const lines = ["", `The gateway is ready (${elapsed}): ${url}`, ""];
  const issuer = issuers[DEVELOPMENT_ISSUER]?.issuer.replace(/\/$/, "");
  if (issuer !== undefined) {
    lines.push(`  login    ${issuer}/`, "           For development only: tokens of any user, without a password.", "");
  }
  if (issuer !== undefined && upstreams[EXAMPLE_UPSTREAM] !== undefined) {
    lines.push(
      "Try this in another terminal:",
      "",
      "  # without a token: 401",
      `  curl -i ${url}/hello/ada`,
      "  # with one: 200",
      `  token=$(curl -s ${issuer}/token -d user=ada -d roles=user \\`,
      "    | node -pe 'JSON.parse(fs.readFileSync(0)).access_token')",
      `  curl -i ${url}/hello/ada -H "authorization: Bearer $token"`,
      "",
    );
  }
  lines.push("A change of gateway.toml is applied when you save it. Ctrl-C ends everything.");
  return lines.join("\n");
}
