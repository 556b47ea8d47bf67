// What the gateway writes in a request: headers for the origin and the log line.

export const HEADERS = {
  "x-request-id": "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  "x-request-timeout-ms": "5000",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
  "x-forwarded-proto": "http",
  "x-forwarded-host": "127.0.0.1:8787",
  "x-user-id": "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  "x-user-email": "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f@example.com",
  "x-user-roles": "user",
  "x-gateway-assertion": "x".repeat(620),
};

export const LINE = JSON.stringify({
  level: "info",
  service: "gateway",
  request_id: "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  trace_id: "0af7651916cd43dd8448eb211c80319c",
  span_id: "b7ad6b7169203331",
  user_id: "0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  method: "GET",
  route: "/api/v1/users/{id}",
  path: "/api/v1/users/0197f6a2-5c1e-7d3a-9b0e-0a1b2c3d4e5f",
  status: 200,
  duration_ms: 3,
  upstream: "users",
  upstream_ms: 3,
  cache: "token",
});
