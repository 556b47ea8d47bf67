// `npm run policy:push` and `npm run policy:rollback`: a policy without a deploy. The newest
// is KV's policy/current, the one before it policy/previous; isolates look by themselves.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { runCommand } from "./lib/cargo.js";
import { dataFolder, NODE, WRANGLER } from "./lib/paths.js";
import { compilePolicy, compilePolicyTool } from "./lib/policy-tool.js";
import { checkPrerequisites } from "./lib/prerequisites.js";
import { createProcesses } from "./lib/processes.js";
import { wranglerEnv } from "./lib/services.js";
import { listenForEnd } from "./lib/signals.js";
import { createProgress } from "./lib/progress.js";
import { EXIT_USAGE, ScriptError, runMain } from "./lib/errors.js";

const HELP = `npm run policy:push                     checks gateway.toml and has the local edge use it
npm run policy:push -- --file x.toml    another file
npm run policy:rollback                 has it use the one before; again: back to the newer
npm run policy:push -- --remote         on Cloudflare, where wrangler is logged in (rollback, too)

Isolates take it up within a minute and a half (locally within half a minute); GET /status
shows the version, and why a newer one is not used.`;

const processes = createProcesses();
listenForEnd((code) => processes.stopAll().then(() => process.exit(code)));

const [command, ...args] = process.argv.slice(2);

await runMain(async () => {
  if (args.includes("--help") || args.includes("-h") || !["push", "rollback"].includes(command)) {
    console.log(HELP);
    return;
  }
  const isRemote = args.includes("--remote");
  const at = args.indexOf("--file");
  const file = at >= 0 ? args[at + 1] : process.env.GATEWAY_CONFIG || "gateway.toml";
  const known = ["--remote", "--local", "--file", ...(at >= 0 ? [file] : [])];
  const unknown = args.find((arg) => !known.includes(arg));
  if (unknown !== undefined || file === undefined)
    throw new ScriptError(
      `${JSON.stringify(unknown ?? "--file")} cannot be used like that; see: npm run policy:push -- --help`,
      {
        code: EXIT_USAGE,
      },
    );
  const data = dataFolder(process.env);
  const where = isRemote ? ["--remote"] : ["--local", "--persist-to", join(data, "edge")];
  const kv = (...rest) =>
    runCommand(NODE, [WRANGLER, "kv", "key", ...rest, "--binding", "KEYS", ...where], {
      processes,
      env: { ...wranglerEnv(data), CI: "true" },
      failure: "KV cannot be reached",
    });
  const get = async (key) => {
    const names = JSON.parse(await kv("list", "--prefix", `policy/${key}`)).map(({ name }) => name);
    return names.includes(`policy/${key}`) ? kv("get", `policy/${key}`, "--text") : undefined;
  };
  const folder = mkdtempSync(join(tmpdir(), "portcullis-policy-"));
  const put = async (key, text) => {
    const path = join(folder, key);
    writeFileSync(path, text, { mode: 0o600 });
    await kv("put", `policy/${key}`, "--path", path);
  };
  const progress = createProgress({ out: process.stderr });
  try {
    await checkPrerequisites();
    if (command === "push") {
      await progress.run("compile the policy's checker", (onProgress) => compilePolicyTool({ processes, onProgress }));
      const next = compilePolicy(file);
      if (next === undefined)
        throw new ScriptError(`${file} is not pushed; the lines above say what to write instead.`);
      const before = await progress.run("read what is there", () => get("current"));
      if (before?.trim() === next) {
        progress.close();
        console.log("That policy is there already.");
        return;
      }
      await progress.run("write the policy", async () => {
        if (before !== undefined) await put("previous", before.trim());
        await put("current", next);
      });
      progress.close();
      console.log(`${file} is pushed; npm run policy:rollback takes it back.`);
    } else {
      const [current, previous] = await progress.run("read what is there", async () => [
        await get("current"),
        await get("previous"),
      ]);
      if (previous === undefined) {
        if (current === undefined) throw new ScriptError("No policy was pushed: the built-in one is in use.");
        await progress.run("take the policy away", () => kv("delete", "policy/current"));
        progress.close();
        console.log("The built-in policy is in use again.");
        return;
      }
      await progress.run("write the policy", async () => {
        await put("current", previous.trim());
        if (current !== undefined) await put("previous", current.trim());
      });
      progress.close();
      console.log("The policy before is in use again.");
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
