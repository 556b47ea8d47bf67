// Recent refusals: a searchable list, each with its reason in plain words and the responsible part of the policy.

import { byId, h, marked, show } from "./dom.js";
import { dateTime, duration, plural, time } from "./format.js";
import { textOf } from "./diff.js";

// Shown at most; a search covers all.
const SHOWN = 100;

/**
 * @typedef {{ timestamp: string, request_id: string, trace_id: string, code: string, detail?: string, status: number,
 *   method: string, route?: string, upstream?: string, duration_ms: number }} Refusal
 * @typedef {{ policy: any, lines: { file: string, routes: Record<string, number>[] } | null } | undefined} InUse
 */

/** Options that decide about a code, the first that is written. @type {[RegExp, string[]][]} */
const RESPONSIBLE = [
  [/^(rights_missing|authentication_insufficient)$/, ["access", "issuers"]],
  [/^credentials_|^token_|^proof_|^certificate_/, ["access", "issuers"]],
  [/^method_not_allowed$/, ["methods"]],
  [/^body_too_large$/, ["max_body_bytes"]],
  [/^body_too_slow$/, ["body_timeout_ms"]],
  [/^rate_limited$/, ["limits"]],
  [/^authorization_/, ["authorizer"]],
  [/^request_invalid$/, ["validate"]],
  [/^(origin_unlisted|cross_site)$/, ["cors"]],
  [/^revocation_|^keys_|^introspection_/, ["issuers", "access"]],
  [/^upstream_|^maintenance$|^authentication_unavailable$|^assertion_/, ["upstream"]],
];

/**
 * Returns what docs/errors.md says about a code, without the status.
 * @param {string} code
 */
export const reasonOf = (code) =>
  REASONS[code]?.replace(/^\d{3}\. /, "") ?? "docs/errors.md has no entry for this code.";

/**
 * Returns the route of a refusal, the option that decided, and its line in the policy file, if they are known.
 * @param {Refusal} refusal
 * @param {InUse} inUse
 */
function responsibleFor({ code, route: path, method }, inUse) {
  /** @type {any[]} */
  const routes = inUse?.policy?.routes ?? [];
  const isIt = (/** @type {any} */ route) => route.path === path;
  const exact = routes.findIndex((route) => isIt(route) && route.methods?.includes(method));
  const index = exact === -1 ? routes.findIndex(isIt) : exact;
  if (path === undefined || index === -1) return undefined;
  const options = RESPONSIBLE.find(([pattern]) => pattern.test(code))?.[1] ?? [];
  const option = options.find((name) => name in routes[index]) ?? "path";
  const line = inUse?.lines?.routes[index]?.[option];
  return { route: routes[index], option, place: line === undefined ? undefined : `${inUse?.lines?.file}:${line}` };
}

/** @type {Map<string, { element: HTMLElement, key: string }>} */
const made = new Map();

/**
 * @param {Refusal[]} refusals
 * @param {InUse} inUse
 */
export function showRefusals(refusals, inUse) {
  const wanted = /** @type {HTMLInputElement} */ (byId("search")).value.trim().toLowerCase();
  /** @param {Refusal} refusal */
  const matches = ({ request_id, trace_id, code, status, method, route = "", upstream = "" }) =>
    [request_id, trace_id, code, String(status), `${method} ${route}`.toLowerCase(), upstream].some((text) =>
      text?.includes(wanted),
    );
  const found = refusals.filter(matches);
  const shown = found.slice(0, SHOWN);
  const more = found.length > shown.length ? `; the newest ${SHOWN} are shown` : "";
  const of =
    wanted === "" ? plural(found.length, "recent refusal") : `${found.length} of ${refusals.length} refusals match`;
  show(byId("found"), [of, more], () => `${of}${more}.`);
  const list = byId("refusal-list");
  const elements = shown.map((refusal) => elementOf(refusal, inUse));
  for (const key of made.keys())
    if (!refusals.some((refusal) => refusal.request_id + refusal.timestamp === key)) made.delete(key);
  const isSame = list.children.length === elements.length && elements.every((each, at) => list.children[at] === each);
  if (!isSame) list.replaceChildren(...elements);
  byId("no-refusals").hidden = shown.length > 0;
  show(byId("no-refusals"), [wanted === "", refusals.length], () =>
    wanted === ""
      ? [h("strong", {}, "No refusals yet. "), "Isolates report theirs every ten seconds."]
      : [
          h("strong", {}, "Nothing matches. "),
          "Only the newest 500 refusals are kept here. The log has all of them, by their request_id.",
        ],
  );
}

/**
 * @param {Refusal} refusal
 * @param {InUse} inUse
 */
function elementOf(refusal, inUse) {
  const id = refusal.request_id + refusal.timestamp;
  const key = JSON.stringify(inUse?.lines?.file ?? null) + String(inUse?.policy !== undefined);
  const known = made.get(id);
  if (known?.key === key) return known.element;
  const { status, code, method, route, request_id, timestamp } = refusal;
  const kind = status >= 500 ? "bad" : "warn";
  const element = h(
    "li",
    {},
    h(
      "details",
      { open: known?.element.querySelector("details")?.open },
      h(
        "summary",
        {},
        h(`span.status.${kind}`, {}, status),
        h("code.code", {}, code),
        h("span.where", {}, h("b", {}, method), ` ${route ?? "no route"}`),
        h("code.id", { title: request_id }, request_id),
        h("time", { datetime: timestamp, title: dateTime(Date.parse(timestamp)) }, time(Date.parse(timestamp))),
      ),
      reasonPart(refusal, inUse),
    ),
  );
  made.set(id, { element, key });
  return element;
}

/**
 * @param {Refusal} refusal
 * @param {InUse} inUse
 */
function reasonPart(refusal, inUse) {
  const { code, detail, request_id, trace_id, upstream, duration_ms } = refusal;
  const responsible = responsibleFor(refusal, inUse);
  /** @param {string} name @param {any} value */
  const fact = (name, value) => value !== undefined && h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h(
    "div.reason",
    {},
    h("p.words", {}, ...marked(reasonOf(code))),
    detail !== undefined && h("p", {}, h("strong", {}, "Detail: "), h("code", {}, detail)),
    h(
      "dl.facts",
      {},
      fact("Request id", h("code", {}, request_id)),
      fact("Trace id", h("code", {}, trace_id)),
      fact("Upstream", upstream),
      fact("Duration", duration(duration_ms)),
    ),
    responsible === undefined
      ? h(
          "p.muted",
          {},
          refusal.route === undefined
            ? "No route of the policy took part."
            : "The policy in use has no such route any more.",
        )
      : h(
          "div.policy-part",
          {},
          h(
            "p",
            {},
            "Responsible in the policy: ",
            h("code", {}, responsible.option),
            responsible.place === undefined ? " of this route" : " at ",
            responsible.place !== undefined && h("code.place", {}, responsible.place),
          ),
          h("pre", { tabindex: 0, "aria-label": "The route in the policy" }, ...routeLines(responsible)),
        ),
  );
}

/** @param {{ route: any, option: string }} responsible */
function routeLines({ route, option }) {
  const lines = textOf(route, 0).split("\n");
  const begin = `  ${JSON.stringify(option)}:`;
  let isInside = false;
  return lines.flatMap((line) => {
    if (/^ {2}"/.test(line) || line === "}") isInside = line.startsWith(begin);
    return [isInside ? h("mark", {}, line) : line, "\n"];
  });
}
