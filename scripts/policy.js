// `npm run policy:push` and `npm run policy:rollback`: a policy without a deploy. The newest
// is KV's policy/current, the one before it policy/previous; isolates look by themselves.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { readArguments } from "./lib/arguments.js";
import { runCommand } from "./lib/cargo.js";
import { hasPackages } from "./lib/install.js";
import { dataFolder, NODE, policyFile, WRANGLER } from "./lib/paths.js";
import { openPolicyTool, readPolicyFile, runWithDocuments } from "./lib/policy-tool.js";
import { wranglerEnv } from "./lib/services.js";
import { runScript } from "./lib/script.js";
import { createProgress } from "./lib/progress.js";
import { EXIT_USAGE, ScriptError } from "./lib/errors.js";

const HELP = `npm run policy:push                     validates gateway.toml and activates it on the local gateway
npm run policy:push -- --file x.toml    another file
npm run policy:rollback                 reactivates the previously pushed policy, or the deployed one
npm run policy:push -- --remote         on Cloudflare, with the login of wrangler (also for rollback)

Isolates use it within 90 seconds (locally within 30). GET /status shows the version in use, and why
a newer one is not used.`;

const COMMANDS = ["push", "rollback"];

await runScript(async ([command, ...args], processes) => {
  const { values } = readArguments(args, {
    command: `npm run policy:${command}`,
    options: { remote: { type: "boolean" }, local: { type: "boolean" }, file: { type: "string" } },
  });
  if (values.help || !COMMANDS.includes(command)) return console.log(HELP);
  const { file = policyFile(process.env), remote: isRemote } = values;
  if (!hasPackages())
    throw new ScriptError("The npm packages are not installed; run: npm run setup", { code: EXIT_USAGE });
  const data = dataFolder(process.env);
  const where = isRemote ? ["--remote"] : ["--local", "--persist-to", join(data, "edge")];
  /** @param {...string} rest */
  const kv = (...rest) =>
    runCommand(NODE, [WRANGLER, "kv", "key", ...rest, "--binding", "KEYS", ...where], {
      processes,
      env: { ...wranglerEnv(data), CI: "true" },
      failure: "KV cannot be reached",
    });
  /**
   * @param {string} key
   * @returns {Promise<string | undefined>}
   */
  const get = async (key) => {
    const names = JSON.parse(await kv("list", "--prefix", `policy/${key}`)).map(
      (/** @type {{ name: string }} */ { name }) => name,
    );
    return names.includes(`policy/${key}`) ? kv("get", `policy/${key}`, "--text") : undefined;
  };
  const folder = mkdtempSync(join(tmpdir(), "portcullis-policy-"));
  /**
   * @param {string} key
   * @param {string} text
   */
  const put = async (key, text) => {
    const path = join(folder, key);
    writeFileSync(path, text, { mode: 0o600 });
    await kv("put", `policy/${key}`, "--path", path);
  };
  const progress = createProgress({ out: process.stderr });
  try {
    if (command === "push") {
      const run = await openPolicyTool({ progress, processes });
      const { out: next, errors } = await runWithDocuments(run, { command: "compile", policy: readPolicyFile(file) });
      for (const line of errors) console.error(line);
      if (errors.length > 0) throw new ScriptError(`${file} is not pushed; the lines above name its mistakes.`);
      const before = await progress.run("read the current policy", () => get("current"));
      if (before?.trim() === next) {
        progress.close();
        return console.log("The policy has not changed since the last push.");
      }
      await progress.run("write the policy", async () => {
        if (before !== undefined) await put("previous", before.trim());
        await put("current", next);
      });
      progress.close();
      return console.log(`${file} is pushed. To undo this: npm run policy:rollback`);
    }
    const [current, previous] = await progress.run("read the pushed policies", async () => [
      await get("current"),
      await get("previous"),
    ]);
    if (previous === undefined) {
      if (current === undefined)
        throw new ScriptError("There is no pushed policy to roll back; the built-in policy is in use.");
      await progress.run("delete the pushed policy", () => kv("delete", "policy/current"));
      progress.close();
      return console.log("The built-in policy is in use again.");
    }
    await progress.run("write the policy", async () => {
      await put("current", previous.trim());
      if (current !== undefined) await put("previous", current.trim());
    });
    progress.close();
    return console.log("The previous policy is in use again.");
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
