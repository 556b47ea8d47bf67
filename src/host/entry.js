// The worker's entry: hands the runtime's events to the wasm module. Decides
// nothing. After a panic the generated glue starts the module anew with the
// next event, so one request is lost and not the isolate.

import * as gateway from "./index.js";

export default {
  /**
   * @param {Request} request
   * @param {unknown} env
   * @param {ExecutionContext} context
   */
  fetch(request, env, context) {
    return gateway.fetch(request, env, context);
  },
  /**
   * @param {ScheduledController} _event
   * @param {unknown} env
   * @param {ExecutionContext} _context
   */
  async scheduled(_event, env, _context) {
    await gateway.scheduled(env);
  },
};

// The objects hold nothing of wasm's between two events.

/** The Durable Object that keeps the revocation log. */
export class Revocations {
  /** @param {DurableObjectState} state */
  constructor(state) {
    this.state = state;
  }

  /** @param {Request} request */
  fetch(request) {
    return gateway.revocationLog(request, this.state);
  }

  async alarm() {
    await gateway.sweepRevocationLog(this.state);
  }
}

/** The Durable Object that sums the metrics of all isolates. */
export class Metrics {
  /** @param {DurableObjectState} state */
  constructor(state) {
    this.state = state;
  }

  /** @param {Request} request */
  fetch(request) {
    return gateway.metricSums(request, this.state);
  }
}
