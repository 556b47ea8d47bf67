#!/usr/bin/env node
// `npm create portcullis`: asks what its flags do not give, and writes a project.

import { readFileSync } from "node:fs";
import { relative, resolve } from "node:path";
import { createInterface } from "node:readline/promises";
import { parseArgs } from "node:util";

import { CreateError, filesOf, writeProject } from "./project.js";
import { askMissing } from "./questions.js";

const HELP = `npm create portcullis@latest FOLDER             asks what is not given, and writes a project
npm create portcullis@latest FOLDER -- --yes    asks nothing

  --upstream URL    your service; without it, an example service
  --issuer URL      the OpenID provider that issues your users' tokens, exactly as in their "iss"; without it,
                    a development issuer with a login page, for this machine only
  --audience NAME   the "aud" of your users' tokens; needed with --issuer
  --yes             takes the defaults instead of asking
  --help            shows this

No file is overwritten.`;

const OPTIONS = /** @type {const} */ ({
  upstream: { type: "string" },
  issuer: { type: "string" },
  audience: { type: "string" },
  yes: { type: "boolean", short: "y" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean", short: "v" },
});

function readArguments() {
  try {
    return parseArgs({ options: OPTIONS, allowPositionals: true });
  } catch (error) {
    const { message } = /** @type {Error} */ (error);
    throw new CreateError(`${message.split(/\. |\n/)[0]}; see: npm create portcullis -- --help`, 2);
  }
}

async function main() {
  const { values, positionals } = readArguments();
  if (values.help) return console.log(HELP);
  const { version } = JSON.parse(readFileSync(new URL("package.json", import.meta.url), "utf8"));
  if (values.version) return console.log(version);
  if (positionals.length > 1) throw new CreateError("Only one folder can be given.", 2);
  const isAsking = !values.yes && process.stdin.isTTY;
  const asking = isAsking ? createInterface({ input: process.stdin, output: process.stdout }) : undefined;
  const { folder, ...answers } = await askMissing(
    positionals[0],
    values,
    async (question) => (await asking?.question(`${question} `))?.trim() ?? "",
  );
  asking?.close();
  const path = resolve(folder);
  const files = filesOf({ folder: path, ...answers, version });
  writeProject(path, files);
  const shown = relative(process.cwd(), path) || ".";
  console.log(
    [
      `${shown} has a gateway: ${Object.keys(files).join(", ")}`,
      "",
      "Next:",
      "",
      ...(shown === "." ? [] : [`  cd ${shown}`]),
      "  npm install",
      "  npx portcullis dev",
    ].join("\n"),
  );
}

try {
  await main();
} catch (thrown) {
  // Ctrl-C or Ctrl-D at a question.
  const isEnded = /** @type {{ code?: unknown }} */ (thrown).code === "ABORT_ERR";
  const error = isEnded ? new CreateError("Nothing was written.") : thrown;
  if (!(error instanceof CreateError)) throw error;
  console.error(`create-portcullis: ${error.message}`);
  process.exitCode = error.code;
}
