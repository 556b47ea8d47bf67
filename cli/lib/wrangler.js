// wrangler's environment.

import { join } from "node:path";

/**
 * Keeps wrangler from sending reports, and its registry of running Workers in `data`.
 * @param {string} data
 */
export function wranglerEnv(data) {
  return {
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_WRITE_LOGS: "false",
    WRANGLER_NO_SKILLS_UPDATE_PROMPTS: "true",
    WRANGLER_REGISTRY_PATH: join(data, "registry"),
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    // Both would store requests, headers included.
    X_LOCAL_OBSERVABILITY: "false",
    X_LOCAL_EXPLORER: "false",
  };
}

// wrangler's line for a request, such as "[wrangler:info] GET /x 200 OK (3ms)". It shows the path as
// received, which may hold a token; the edge's own log line does not.
export const WRANGLER_REQUEST = /^\[wrangler:info\] \S+ .*\(\d+m?s\)$/;
