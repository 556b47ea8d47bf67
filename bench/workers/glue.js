// The gateway's own JavaScript with constants in place of the wasm: the difference to the gateway is the CPU time
// of the wasm and of the calls into it and out of it.

import { readHead } from "../../src/host/bindings.js";
import { forward, passOn } from "../../src/host/proxy.js";
import { HEADERS, LINE } from "./written.js";

// As many successes as a deployment logs by default.
const LOGGED = 10;

const ADDED = Object.entries(HEADERS).flat().join("\n");
const CHANGES = `x-request-id\n\nx-content-type-options\nnosniff\nx-request-id\n${HEADERS["x-request-id"]}`;

let count = 0;

export default {
  async fetch(request, env) {
    const [method, url, ...headers] = readHead(request).split("\n");
    const { pathname, search } = new URL(url);
    const packed = [env.ORIGIN + pathname + search, method, ...headers, ADDED].join("\n");
    const [response] = await forward(request, packed, 5000, false, undefined);
    count += 1;
    if (count % LOGGED === 0) console.log(LINE);
    return passOn(response, CHANGES, undefined, undefined, undefined);
  },
};
