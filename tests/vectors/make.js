// Writes the tables of `cases.js` and `providers.js` for the native tests, and that of `assertions.js` for all languages:
//   node tests/vectors/make.js > tests/vectors/tokens.json
//   node tests/vectors/make.js providers > tests/vectors/providers.json
//   node tests/vectors/make.js assertions > tests/vectors/assertions.json
// The keys are new each time, and the private ones are not kept.

import { makeAssertions } from "./assertions.js";
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

function assertions() {
  const { cases, settings, ...rest } = makeAssertions(now);
  const members = Object.entries(rest).map(([name, value]) => `  "${name}": ${JSON.stringify(value)},\n`);
  return `{
  "made_with": "tests/vectors/make.js assertions",
${members.join("")}  "settings": [
${lines(settings, "    ")}
  ],
  "cases": [
${lines(cases, "    ")}
  ]
}
`;
}

const TABLES = { tokens, providers, assertions };

process.stdout.write(await TABLES[process.argv[2] ?? "tokens"]());
