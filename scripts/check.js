// `npm run check`: checks a policy and prints what it amounts to, or says who may call
// what.

import { createProcesses } from "./lib/processes.js";
import { compilePolicyTool, runPolicyTool } from "./lib/policy-tool.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { listenForEnd } from "./lib/signals.js";
import { createProgress } from "./lib/progress.js";
import { runMain } from "./lib/errors.js";

const HELP = `npm run check                                     checks gateway.toml, prints the effective table and
                                                  which route wins where paths overlap
npm run check -- GET /api/v1/users/7              who may call this?
npm run check -- GET /api/v1/users/7 --roles user [--user 7] [--scopes a,b]
                 [--claim org/tenant=shop] [--issuer NAME]     may such a caller?
npm run check -- --file other.toml …              another policy (default: GATEWAY_CONFIG, gateway.toml)
npm run check -- --help                           shows this

Ends with 1 when the policy has mistakes, or the answer is no.`;

const processes = createProcesses();
listenForEnd((code) => processes.stopAll().then(() => process.exit(code)));

await runMain(async () => {
  const args = process.argv.slice(2);
  if (args.includes("--help") || args.includes("-h")) {
    console.log(HELP);
    return;
  }
  let file = process.env.GATEWAY_CONFIG || "gateway.toml";
  const at = args.indexOf("--file");
  if (at >= 0) [, file] = args.splice(at, 2);
  await checkPrerequisites();
  const progress = createProgress({ out: process.stderr });
  await progress.run("compile the policy's checker", (onProgress) => compilePolicyTool({ processes, onProgress }));
  progress.close();
  process.exitCode = runPolicyTool(["--file", file ?? "", ...(args.length === 0 ? ["table"] : ["may", ...args])]);
});
