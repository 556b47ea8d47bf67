// The operators' page: signs in, polls the gateway, and shows one of four views.

import { Refused, isSignedIn, request, signIn, signOut } from "./api.js";
import { byId } from "./dom.js";
import { showOverview } from "./overview.js";
import { chooseDiff, inUseOf, showPolicy, wireRollback } from "./policy.js";
import { showRefusals } from "./refusals.js";
import * as samples from "./samples.js";
import { showToken } from "./token-view.js";

// Milliseconds between two polls, and at most after failures.
const [POLL_MS, POLL_MOST_MS] = [5_000, 60_000];

// Milliseconds between two reads of the policies and, while another view is open, of the refusals.
const SLOW_MS = 30_000;

const VIEWS = ["overview", "refusals", "policy", "token"];

/** @type {{ status?: any, refusals: any[], policies?: any }} */
const known = { refusals: [] };
/** @type {{ at: number, failures: number, error?: string, isPaused: boolean, slowAt: number, timer?: number }} */
const polling = { at: 0, failures: 0, isPaused: false, slowAt: 0 };

const view = () => {
  const name = location.hash.slice(1);
  return VIEWS.includes(name) ? name : "overview";
};

const inUse = () => inUseOf(known.policies, known.status?.policy_version);

function render() {
  const name = view();
  const isIn = isSignedIn();
  byId("top").hidden = !isIn;
  byId("sign-in").hidden = isIn;
  for (const each of VIEWS) byId(each).hidden = !isIn || each !== name;
  for (const link of byId("views").querySelectorAll("a")) {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = isIn ? `${name[0].toUpperCase()}${name.slice(1)} · Portcullis` : "Sign in · Portcullis";
  if (!isIn) return;
  renderLive();
  if (name === "overview") showOverview(known, inUse());
  if (name === "refusals") showRefusals(known.refusals, inUse());
  if (name === "policy") showPolicy(known.policies, known.status);
  if (name === "token") showToken(inUse()?.policy);
}

function renderLive() {
  const live = byId("live");
  const { error, isPaused, at } = polling;
  const [state, text] = isPaused
    ? ["paused", "Paused"]
    : error !== undefined
      ? ["failing", at === 0 ? error : `${error}. The data is ${Math.round((Date.now() - at) / 1000)} s old.`]
      : at === 0
        ? ["waiting", "Connecting"]
        : ["good", "Live"];
  live.dataset.state = state;
  if (byId("live-text").textContent !== text) byId("live-text").textContent = text;
  live.title = text;
}

/** @param {string} [message] */
function leave(message = "") {
  clearTimeout(polling.timer);
  signOut();
  samples.forget();
  Object.assign(known, { status: undefined, refusals: [], policies: undefined });
  Object.assign(polling, { at: 0, failures: 0, error: undefined, isPaused: false, slowAt: 0 });
  byId("sign-in-error").textContent = message;
  render();
  byId("operators-token").focus();
}

async function readSlow() {
  const isDue = Date.now() - polling.slowAt >= SLOW_MS;
  const version = `${known.status?.policy_version} ${known.status?.policy_fault}`;
  const hasChanged = known.policies !== undefined && known.policies.for !== version;
  const [refusals, policies] = await Promise.all([
    isDue || view() === "refusals" ? request("/_gateway/refusals").then((response) => response.json()) : undefined,
    isDue || hasChanged || view() === "policy"
      ? request("/_gateway/policy").then((response) => response.json())
      : undefined,
  ]);
  if (refusals !== undefined) known.refusals = refusals;
  if (policies !== undefined) known.policies = { ...policies, for: version };
  if (isDue) polling.slowAt = Date.now();
}

async function read() {
  // An unhealthy gateway answers 503 with the same document.
  const [status, metrics] = await Promise.all([request("/status", { answers: [200, 503] }), request("/metrics")]);
  const document = await status.json();
  if (document.upstreams === undefined) throw new Error(document.detail ?? "The gateway shows no details");
  known.status = document;
  samples.add(samples.parse(await metrics.text(), Date.now()));
  await readSlow();
}

async function poll() {
  clearTimeout(polling.timer);
  if (!isSignedIn() || polling.isPaused || document.hidden) return;
  try {
    await read();
    Object.assign(polling, { at: Date.now(), failures: 0, error: undefined });
  } catch (error) {
    if (!isSignedIn()) return;
    if (error instanceof Refused) return leave(error.message);
    polling.failures += 1;
    polling.error = wordsOf(error);
  }
  if (!isSignedIn()) return;
  render();
  const pause = Math.min(POLL_MOST_MS, POLL_MS * 2 ** polling.failures);
  clearTimeout(polling.timer);
  polling.timer = setTimeout(pollNow, pause);
}

/** @param {unknown} error */
function wordsOf(error) {
  if (error instanceof DOMException && error.name === "TimeoutError") return "The gateway does not answer in time";
  return error instanceof TypeError ? "The gateway cannot be reached" : String(/** @type {Error} */ (error).message);
}

// What fails is shown by the poll itself.
const pollNow = () => void poll().catch((error) => console.error(error));

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const field = /** @type {HTMLInputElement} */ (byId("operators-token"));
  const button = /** @type {HTMLButtonElement} */ (byId("sign-in-button"));
  const value = field.value.trim();
  // A header takes visible ASCII only.
  if (!/^[\x21-\x7e]+$/.test(value)) {
    byId("sign-in-error").textContent = "A token has no spaces and no characters beyond ASCII.";
    return;
  }
  const enter = async () => {
    button.disabled = true;
    byId("sign-in-error").textContent = "";
    signIn(value);
    try {
      await read();
      field.value = "";
      Object.assign(polling, { at: Date.now(), failures: 0, error: undefined });
      render();
      byId("content").focus({ preventScroll: true });
      polling.timer = setTimeout(pollNow, POLL_MS);
    } catch (error) {
      leave(wordsOf(error));
    } finally {
      button.disabled = false;
    }
  };
  void enter();
});

byId("sign-out").addEventListener("click", () => leave());

byId("pause").addEventListener("click", () => {
  polling.isPaused = !polling.isPaused;
  byId("pause").textContent = polling.isPaused ? "Resume" : "Pause";
  renderLive();
  pollNow();
});

const THEMES = ["auto", "light", "dark"];
const THEME_KEY = "portcullis-theme";

/** @param {string} theme */
function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  localStorage.setItem(THEME_KEY, theme);
}

byId("theme").addEventListener("click", () => {
  const at = THEMES.indexOf(document.documentElement.dataset.theme ?? "auto");
  setTheme(THEMES[(at + 1) % THEMES.length]);
});

document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault();
  byId("content").focus();
});

byId("search").addEventListener("input", () => showRefusals(known.refusals, inUse()));
byId("compare").addEventListener("change", () => chooseDiff(known.policies));
byId("token-text").addEventListener("input", () => showToken(inUse()?.policy));
byId("token-clear").addEventListener("click", () => {
  /** @type {HTMLTextAreaElement} */ (byId("token-text")).value = "";
  showToken(inUse()?.policy);
  byId("token-text").focus();
});
wireRollback(() => known.policies, pollNow);

addEventListener("hashchange", () => {
  render();
  scrollTo(0, 0);
  if (view() !== "overview") pollNow();
});
document.addEventListener("visibilitychange", pollNow);

byId("host").textContent = location.host;
setTheme(THEMES.find((theme) => theme === localStorage.getItem(THEME_KEY)) ?? "auto");
render();
byId("operators-token").focus();
