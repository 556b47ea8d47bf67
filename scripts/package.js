// `npm run package`: the npm packages as tarballs.

import { readArguments } from "../cli/lib/arguments.js";
import { createProgress } from "../cli/lib/progress.js";
import { runScript } from "../cli/lib/script.js";
import { PACKAGES, packAll } from "./lib/packages.js";

const HELP = `npm run package              builds the Worker as it is deployed, and the npm packages ${Object.keys(PACKAGES).join(" and ")},
                             as tarballs in build/packages
npm run package -- --help    shows this`;

const progress = createProgress();

await runScript(
  async (args, processes) => {
    const { values } = readArguments(args, { command: "npm run package" });
    if (values.help) return console.log(HELP);
    const packed = await packAll({ progress, processes });
    progress.close();
    for (const { name, version, file, size, unpackedSize, entryCount } of packed)
      console.log(`${name} ${version}: ${file}, ${size} bytes, ${unpackedSize} unpacked, ${entryCount} files`);
    return undefined;
  },
  { onEnd: () => progress.freeze() },
);
