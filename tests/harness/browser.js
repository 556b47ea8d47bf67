// A browser at an authorization server: it keeps cookies, and follows redirects by hand.
//
//   const visit = browser(issuer);
//   const { status, text, location } = await visit("/session/end", { form });
//   const location = await authorize(visit, url, { callback, login });    logs in, and allows everything

// Redirects and pages at most, before the client's own URL.
const STEPS_MAX = 20;

// Returns a function that visits one host with its cookies.
export function browser(base) {
  const cookies = new Map();
  /**
   * @param {string | URL} path
   * @param {{ form?: Record<string, string> }} [options]
   */
  return async function visit(path, { form } = {}) {
    const answer = await fetch(new URL(path, base), {
      method: form ? "POST" : "GET",
      redirect: "manual",
      headers: { cookie: [...cookies].map((pair) => pair.join("=")).join("; ") },
      body: form && new URLSearchParams(form),
    });
    for (const line of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value === "") cookies.delete(name);
      else cookies.set(name, value);
    }
    const location = answer.headers.get("location");
    return { status: answer.status, text: await answer.text(), location };
  };
}

// Resolves with the URL below `callback` to which the server sends the browser, which has the code. The forms are
// those of oidc-provider's `devInteractions`.
export async function authorize(visit, url, { callback, login }) {
  let page = await visit(url);
  for (let step = 0; step < STEPS_MAX; step += 1) {
    const { status, text, location } = page;
    if (location?.startsWith(callback)) return new URL(location);
    const action = /action="([^"]+)"/.exec(text)?.[1];
    const prompt = /name="prompt" value="(\w+)"/.exec(text)?.[1];
    if (location !== null) page = await visit(location);
    else if (prompt === "login") page = await visit(action, { form: { prompt, login, password: "any" } });
    else if (prompt !== undefined) page = await visit(action, { form: { prompt } });
    else throw new Error(`the authorization server answers ${status}: ${text}`);
  }
  throw new Error(`the authorization server does not lead to ${callback}`);
}
