// `npm run setup`: installs and builds everything and generates local secrets. Afterwards
// `npx wrangler dev` and `npx wrangler deploy` work without npm start.

import { readArguments } from "../cli/lib/arguments.js";
import { dataFolder } from "./lib/paths.js";
import { ensureSecrets } from "./lib/secrets.js";
import { setUp } from "./lib/setup.js";
import { runScript } from "../cli/lib/script.js";
import { createProgress } from "../cli/lib/progress.js";

const HELP = `npm run setup              installs and builds everything, generates local secrets, starts nothing
npm run setup -- --help    shows this

Everything stays in the checkout (node_modules, .tools, target, build, .data and .dev.vars), except Rust's
wasm target and crates, which go to ~/.rustup and ~/.cargo.

  DATA_DIR   directory of the secrets (.data)`;

const progress = createProgress();

await runScript(
  async (args, processes) => {
    const { values } = readArguments(args, { command: "npm run setup" });
    if (values.help) return console.log(HELP);
    await setUp(progress, { processes });
    ensureSecrets(dataFolder(process.env));
    progress.close();
    return console.log(`Everything is built (${progress.elapsed()}). Next: npm start, or npm test.`);
  },
  { onEnd: () => progress.freeze() },
);
