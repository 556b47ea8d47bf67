// Passes the request on unchanged: the minimum cost of a request.

export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.ORIGIN + pathname + search, request), { redirect: "manual" });
  },
};
