// The worker's entry: hands the runtime's events to the wasm module. Decides
// nothing. After a panic the generated glue starts the module anew with the
// next event, so one request is lost and not the isolate.

import * as gateway from "./index.js";

export default {
  fetch(request, env, context) {
    return gateway.fetch(request, env, context);
  },
  async scheduled(_event, env, _context) {
    await gateway.scheduled(env);
  },
};

// The objects hold nothing of wasm's between two events.

// The revocation log.
export class Revocations {
  constructor(state) {
    this.state = state;
  }

  fetch(request) {
    return gateway.revocationLog(request, this.state);
  }

  async alarm() {
    await gateway.sweepRevocationLog(this.state);
  }
}

// The sums of what all isolates have counted.
export class Metrics {
  constructor(state) {
    this.state = state;
  }

  fetch(request) {
    return gateway.metricSums(request, this.state);
  }
}
