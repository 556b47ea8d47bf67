// The worker's entry: hands events to the wasm module, and starts the module
// anew after a panic. Decides nothing.

import * as gateway from "./index.js";

export default {
  fetch(request, env, context) {
    return gateway.fetch(request, env, context);
  },
  async scheduled(_event, env, _context) {
    await gateway.scheduled(env);
  },
};
