// What doing nothing costs: the request goes on as it came.

export default {
  fetch(request, env) {
    const { pathname, search } = new URL(request.url);
    return fetch(new Request(env.ORIGIN + pathname + search, request), { redirect: "manual" });
  },
};
