// Reads the request's body completely, then passes the request on.

export default {
  async fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    const { method, headers } = request;
    const body = request.body === null ? null : await request.arrayBuffer();
    return fetch(env.ORIGIN + pathname + search, { method, headers, body, redirect: "manual" });
  },
};
