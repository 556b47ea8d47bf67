// A Worker between the gateway and its revocation log that fails as a test says: pass, fail, slow, hang,
// garbage. Runs in workerd, not in Node.

const HANG_MS = 3_000;

// Less than the gateway's timeout for the log.
const SLOW_MS = 500;

let mode = "pass";

export class Revocations {
  constructor(_state, env) {
    this.env = env;
  }

  async fetch(request) {
    if (mode === "fail") throw new Error("fails as the test says");
    if (mode === "hang") await new Promise((resolve) => setTimeout(resolve, HANG_MS));
    if (mode === "slow") await new Promise((resolve) => setTimeout(resolve, SLOW_MS));
    if (mode === "garbage") return new Response('{"entries":[["not a mark",1,1]]}');
    const real = this.env.REAL;
    return real.get(real.idFromName("log")).fetch(request);
  }
}

export default {
  fetch(request) {
    mode = new URL(request.url).pathname.slice(1);
    return new Response(mode);
  },
};
