// The Worker's entry: passes the runtime's events to the wasm module. After a panic the generated glue
// starts the module again with the next event.

import * as gateway from "./index.js";
import { isAboutRefusals, keepRefusals } from "./operators.js";

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

// The objects keep no wasm values between events.

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

/** The Durable Object that sums the metrics of all isolates, and keeps their recent refusals. */
export class Metrics {
  /** @param {DurableObjectState} state */
  constructor(state) {
    this.state = state;
  }

  /** @param {Request} request */
  fetch(request) {
    if (isAboutRefusals(request)) return keepRefusals(request, this.state.storage.sql);
    return gateway.metrics(request, this.state);
  }
}
