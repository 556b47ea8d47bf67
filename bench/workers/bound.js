// The pass-through Worker with the gateway's bindings, which it does not use: measures how long the local
// simulators of KV, objects and limits take to start.

import pass from "./pass.js";

export default {
  fetch: pass.fetch,
  scheduled() {},
};

class Unasked {
  fetch() {
    return new Response(null, { status: 404 });
  }
}

export class Revocations extends Unasked {}
export class Metrics extends Unasked {}
