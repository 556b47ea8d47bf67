// Writes what the gateway writes, without reading or deciding anything: the headers for the origin (with an
// assertion of the same length), the request's log line, and an id in the answer. The difference to
// pass-through is the runtime's share.

import { HEADERS, LINE } from "./written.js";

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
