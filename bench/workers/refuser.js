// Refuses as the gateway does, up to the step that the variable STEP names: the problem document, the request's log
// line, the audit event, and the count of the client's refused tokens behind the answer. Does not look at the token
// unless the variable CHECKS is set; then its signature is checked.

import { check } from "./checked.js";

const STEPS = ["answer", "log", "audit", "count"];

const PROBLEM = JSON.stringify({
  type: "authentication_error",
  title: "Unauthorized",
  status: 401,
  detail: "Token signature is not valid",
  error: "Token signature is not valid",
  code: "token_signature",
  operation: "/api/v1/users/{id}",
  request_id: "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
});

const HEADERS = {
  "content-type": "application/problem+json",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
  "x-request-id": "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  "www-authenticate": 'Bearer error="invalid_token"',
};

const IDS = {
  request_id: "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  trace_id: "0af7651916cd43dd8448eb211c80319c",
  span_id: "b7ad6b7169203331",
};

const LINE = JSON.stringify({
  level: "warn",
  service: "gateway",
  ...IDS,
  method: "GET",
  route: "/api/v1/users/{id}",
  path: "/api/v1/users/0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  status: 401,
  duration_ms: 0,
  cache: "memory",
  code: "token_signature",
});

const EVENT = JSON.stringify({
  event_type: "gateway.access",
  result: "denied",
  user_id: null,
  entity_id: "/api/v1/users/0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  operation: "GET /api/v1/users/{id}",
  ...IDS,
  ip_address: null,
  user_agent: null,
  detail: "token_signature",
  timestamp: "2026-01-01T00:00:00.000Z",
});

export default {
  async fetch(request, env, context) {
    const until = (step) => STEPS.indexOf(step) <= STEPS.indexOf(env.STEP);
    if (env.CHECKS && new URL(request.url).pathname !== "/health" && (await check(request, env))) return new Response();
    if (until("log")) console.log(LINE);
    if (until("audit")) console.log(EVENT);
    if (until("count")) context.waitUntil(env.FAILED.limit({ key: "127.0.0.1" }));
    return new Response(PROBLEM, { status: 401, headers: HEADERS });
  },
};
