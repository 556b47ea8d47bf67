// Writes the tables of `cases.js` and `providers.js` for the native tests:
//   node tests/vectors/make.js > tests/vectors/tokens.json
//   node tests/vectors/make.js providers > tests/vectors/providers.json
// The keys are new each time, and the private ones are not kept.

import { makeCases, makeJwks, makeKeys } from "./cases.js";
import { makeProviders } from "./providers.js";

const now = 1_800_000_000;
const lines = (values, indent) => values.map((value) => `${indent}${JSON.stringify(value)}`).join(",\n");

async function tokens() {
  const keys = makeKeys();
  const cases = await makeCases(keys, now);
  return `{
  "made_with": "tests/vectors/make.js",
  "now": ${now},
  "jwks": ${JSON.stringify(makeJwks(keys))},
  "cases": [
${lines(
  cases.map(([name, token, expected]) => ({ name, token, expected })),
  "    ",
)}
  ]
}
`;
}

function providers() {
  const each = makeProviders(now).map(
    ({ name, header, documents, cases }) => `    {
      "name": "${name}",${header === undefined ? "" : `\n      "header": "${header}",`}
      "documents": ${JSON.stringify(documents)},
      "cases": [
${lines(cases, "        ")}
      ]
    }`,
  );
  return `{
  "made_with": "tests/vectors/make.js providers",
  "now": ${now},
  "providers": [
${each.join(",\n")}
  ]
}
`;
}

process.stdout.write(process.argv[2] === "providers" ? providers() : await tokens());
