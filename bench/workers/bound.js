// The pass-through Worker with all that the gateway is bound to and never asked of it: what
// the local simulators of KV, objects and limits take to start is no Worker's doing.

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
