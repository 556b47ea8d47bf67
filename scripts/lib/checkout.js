// Runs a command of the package `portcullis` in a checkout, as an npm script.

import { join } from "node:path";

import { EXIT_USAGE, ScriptError } from "../../cli/lib/errors.js";
import { runScript } from "../../cli/lib/script.js";
import { wranglerEnv } from "../../cli/lib/wrangler.js";
import { hasPackages } from "./install.js";
import { NODE, ROOT, WRANGLER, dataFolder } from "./paths.js";
import { openPolicyTool } from "./policy-tool.js";

/** @import { Command } from "../../cli/lib/project.js" */

/**
 * @param {string} command such as "npm run check"
 * @param {Command} module
 */
export const runInCheckout = (command, module) =>
  runScript((args, processes) =>
    module.run(args, {
      command,
      env: process.env,
      processes,
      openPolicyTool: ({ progress }) => openPolicyTool({ progress, processes }),
      projectFolder: () => ROOT,
      findWrangler() {
        if (!hasPackages())
          throw new ScriptError("The npm packages are not installed; run: npm run setup", { code: EXIT_USAGE });
        const data = join(dataFolder(process.env), "edge");
        return {
          node: NODE,
          script: WRANGLER,
          folder: ROOT,
          local: ["--persist-to", data],
          env: wranglerEnv(data),
        };
      },
    }),
  );
