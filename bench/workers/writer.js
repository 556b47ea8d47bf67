// Writes what the gateway writes, without reading or deciding anything: the headers for the origin (with an
// assertion of the same length), the request's log line, and an id in the answer. The difference to
// pass-through is the runtime's share.

const HEADERS = {
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

const LINE = JSON.stringify({
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

export default {
  async fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    const headers = { ...HEADERS };
    const { method, body } = request;
    const response = await fetch(env.ORIGIN + pathname + search, { method, headers, body, redirect: "manual" });
    console.log(LINE);
    const answer = new Response(response.body, response);
    answer.headers.set("x-request-id", HEADERS["x-request-id"]);
    return answer;
  },
};
