// Writes the table of `cases.js` down for the native tests:
//   node tests/vectors/make.js > tests/vectors/tokens.json
// Keys are made anew each time and the private ones forgotten.

import { makeCases, makeJwks, makeKeys } from "./cases.js";

const now = 1_800_000_000;
const keys = makeKeys();
const cases = await makeCases(keys, now);
const lines = cases.map(([name, token, expected]) => `    ${JSON.stringify({ name, token, expected })}`);
process.stdout.write(`{
  "made_with": "tests/vectors/make.js",
  "now": ${now},
  "jwks": ${JSON.stringify(makeJwks(keys))},
  "cases": [
${lines.join(",\n")}
  ]
}
`);
