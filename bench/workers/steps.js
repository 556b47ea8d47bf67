// Does what the gateway does in JavaScript, up to the step that the variable STEP names. bench/bursts.js measures each.

import { HEADERS, LINE } from "./written.js";

// As many successes as a deployment logs by default.
const LOGGED = 10;

const STEPS = ["fetch", "headers", "read", "cache", "timer", "answer", "log"];

let count = 0;

export default {
  fetch(request, env) {
    const until = (step) => STEPS.indexOf(step) <= STEPS.indexOf(env.STEP);
    const { pathname, search } = new URL(request.url);
    const init = { method: request.method, redirect: "manual" };
    if (until("headers")) init.headers = { ...HEADERS };
    if (until("read"))
      request.headers.forEach((value, name) => {
        init.headers[name] = value;
      });
    if (until("cache")) init.cache = "no-store";
    const asked = fetch(env.ORIGIN + pathname + search, init);
    if (!until("timer")) return asked;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(reject, 5000, new Error("late"));
      asked.then(
        (response) => {
          clearTimeout(timer);
          count += 1;
          if (until("log") && count % LOGGED === 0) console.log(LINE);
          resolve(until("answer") ? answer(response) : response);
        },
        (error) => {
          clearTimeout(timer);
          reject(error);
        },
      );
    });
  },
};

function answer(response) {
  const copy = new Response(response.body, response);
  copy.headers.append("x-content-type-options", "nosniff");
  copy.headers.append("x-request-id", HEADERS["x-request-id"]);
  return copy;
}
