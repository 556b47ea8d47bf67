// The same as jose.js with Hono and its `jwk` middleware. The key set is fetched once and kept, which
// `jwks_uri` would not do.

import { Hono } from "hono";
import { jwk } from "hono/jwk";

const app = new Hono();

let keys;
const keysOf = async (origin) => {
  keys ??= (await (await fetch(`${origin}/.well-known/jwks.json`)).json()).keys;
  return keys;
};

app.use("/api/*", (context, next) =>
  jwk({
    keys: ({ env }) => keysOf(env.ORIGIN),
    alg: context.env.ALGORITHMS.split(","),
    verification: { iss: "auth-service", aud: "api" },
  })(context, next),
);

app.all("/api/v1/users/:id", async (context) => {
  const claims = context.get("jwtPayload");
  if (claims.sub !== context.req.param("id") && !claims.roles?.includes("admin"))
    return context.json({ error: "Insufficient permissions" }, 403);
  const { raw: request } = context.req;
  const { pathname, search } = new URL(request.url);
  const headers = new Headers(request.headers);
  headers.delete("authorization");
  headers.set("x-user-id", claims.sub);
  headers.set("x-user-email", claims.email);
  headers.set("x-user-roles", claims.roles.join(","));
  const { method, body } = request;
  return fetch(context.env.ORIGIN + pathname + search, { method, headers, body, redirect: "manual" });
});

export default app;
