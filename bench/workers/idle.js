// Loads the gateway's modules and never calls them.

import * as gateway from "./index.js";
import { Metrics, Revocations } from "./bound.js";

export { Metrics, Revocations };

export default {
  // The module must not be removed as unused.
  fetch: (request, env, context) => (env.ORIGIN ? new Response() : gateway.fetch(request, env, context)),
  scheduled() {},
};
