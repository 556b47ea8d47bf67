// The state of the gateway and its traffic.

import { bars, chart, spark } from "./charts.js";
import { byId, h, show } from "./dom.js";
import { age, ago, count, duration, percent, plural, rate } from "./format.js";
import { reasonOf } from "./refusals.js";
import * as samples from "./samples.js";

// Rows of the table of routes; those with the most requests.
const ROUTES = 15;

/** @typedef {{ status?: any, refusals: any[] }} Known */

/**
 * @param {Known} known
 * @param {{ policy: any } | undefined} inUse
 */
export function showOverview({ status }, inUse) {
  if (status === undefined || samples.newest() === undefined) return;
  showBanner(status);
  showTiles();
  showTraffic();
  showUpstreams(status);
  showIssuers(status);
  showCodes();
  showLimits(inUse?.policy);
  showRevocation(status.revocation);
  showRoutes();
}

/**
 * Returns what needs an operator's attention, in words.
 * @param {any} status
 * @returns {string[]}
 */
function faultsOf(status) {
  const faults = [];
  if (status.policy_fault) faults.push(`The newest pushed policy is not used: ${status.policy_fault}`);
  for (const upstream of status.upstreams) {
    const { name, breakers, last_error, assertion_secret, binding_missing, maintenance } = upstream;
    if (!assertion_secret) faults.push(`Upstream ${name} has no usable assertion secret, so it gets no request.`);
    if (binding_missing) faults.push(`The binding of upstream ${name} is missing.`);
    const open = breakers.filter((/** @type {string} */ state) => state !== "closed").length;
    if (open > 0) faults.push(`The circuit of upstream ${name} is ${stateOf(breakers)}: ${wordsOf(last_error)}`);
    else if (last_error) faults.push(`The last request to upstream ${name} failed: ${wordsOf(last_error)}`);
    if (maintenance) faults.push(`Upstream ${name} is under maintenance.`);
  }
  for (const { name, last_error, keys } of status.issuers)
    if (last_error)
      faults.push(
        `The keys of issuer ${name} cannot be refreshed (${wordsOf(last_error)})${keys > 0 ? "; the known ones are used" : ""}.`,
      );
  for (const { name, last_error, breaker } of status.authorizers ?? [])
    if (last_error || breaker !== "closed")
      faults.push(`Authorizer ${name} fails (${wordsOf(last_error ?? breaker)}).`);
  const { last_error, too_large_for_a_copy } = status.revocation ?? {};
  if (last_error) faults.push(`The revocation log cannot be read: ${wordsOf(last_error)}`);
  if (too_large_for_a_copy) faults.push("The revocation log is too large for a copy.");
  return faults;
}

/** Codes of /status read as words. @param {string | null} text */
const wordsOf = (text) => (text ?? "no error is known").replaceAll("_", " ");

/** @param {string[]} breakers */
const stateOf = (breakers) =>
  ["open", "half open", "half_open"].find((state) => breakers.includes(state))?.replace("_", " ") ?? "closed";

/** @type {Record<string, [string, string]>} */
const CONDITIONS = {
  healthy: ["good", "Healthy"],
  degraded: ["warn", "Degraded"],
  unhealthy: ["bad", "Unhealthy"],
};

/** @param {string} condition */
function badge(condition) {
  const [kind, text] = CONDITIONS[condition] ?? ["warn", condition];
  return h(`span.badge.${kind}`, {}, text);
}

/** @param {any} status */
function showBanner(status) {
  const faults = faultsOf(status);
  const [kind, text] = CONDITIONS[status.status] ?? ["warn", status.status];
  const banner = byId("banner");
  banner.className = `banner ${kind}`;
  show(banner, [status.status, faults, status.policy_version, status.policy_origin], () => [
    h("strong", {}, text),
    faults.length === 0
      ? h("span", {}, "No faults are known.")
      : h("ul", {}, ...faults.map((fault) => h("li", {}, fault))),
    h("span.version", {}, "Policy ", h("code", {}, status.policy_version), ` (${status.policy_origin})`),
  ]);
}

/** @param {samples.Point[]} points */
const refusedIn = (points) => samples.total(points.filter(({ labels }) => Number(labels.status) >= 400));

/** @param {samples.Point[]} points @param {string} digit */
const classIn = (points, digit) => samples.total(points.filter(({ labels }) => labels.status.startsWith(digit)));

/** @param {samples.Point[]} points requests for the gateway's own endpoints, such as this page's, are no traffic */
const traffic = (points) => points.filter(({ labels }) => labels.route !== "gateway" || Number(labels.status) >= 400);

const REQUESTS = "gateway_requests_total";
const TIMES = "gateway_request_duration_seconds_bucket";

function showTiles() {
  const rates = samples.over((grown, seconds) => samples.total(traffic(grown(REQUESTS))) / seconds);
  const refused = samples.over((grown) => {
    const all = traffic(grown(REQUESTS));
    return samples.total(all) === 0 ? undefined : refusedIn(all) / samples.total(all);
  });
  const p95 = samples.over((grown) => samples.quantileMs(ofRoutes(grown(TIMES)), 0.95));
  const hits = samples.points("gateway_token_cache_total");
  const all = samples.total(hits);
  const hit = samples.total(hits.filter(({ labels }) => labels.result === "hit"));
  const requests = samples.total(traffic(samples.points(REQUESTS)));
  /** @param {{ value: number | undefined }[]} list */
  const values = (list) => list.map(({ value }) => value);
  const data = [values(rates), values(refused), values(p95), hit, all, requests];
  show(byId("tiles"), data, () => [
    tile("Requests", [rate(rates.at(-1)?.value ?? 0), " / s"], `${count(requests)} in total`, values(rates), "s2"),
    tile("Refused or failed", [refusedNow(refused)], "of requests now", values(refused), "s4"),
    tile("Latency, p95", [duration(p95.at(-1)?.value)], "to the answer’s headers", values(p95), "q2"),
    tile(
      "Token cache",
      [all === 0 ? "–" : percent(hit / all)],
      all === 0 ? "no tokens yet" : `of ${count(all)} tokens were cached`,
      [],
      "s2",
    ),
  ]);
}

/** @param {{ value: number | undefined }[]} refused */
function refusedNow(refused) {
  const value = refused.at(-1)?.value;
  return value === undefined ? "–" : percent(value);
}

/** @param {samples.Point[]} points */
const ofRoutes = (points) => points.filter(({ labels }) => labels.route !== "gateway");

/**
 * @param {string} name
 * @param {string[]} value
 * @param {string} note
 * @param {(number | undefined)[]} values
 * @param {string} color
 */
const tile = (name, [value, unit = ""], note, values, color) =>
  h(
    "div.card.tile",
    {},
    h("h2", {}, name),
    h("p.number", {}, value, unit !== "" && h("span.unit", {}, unit)),
    h("p.muted.small", {}, note),
    values.length > 1 && spark(values, color),
  );

function showTraffic() {
  const classes = [
    ["2xx", "s2", "2"],
    ["3xx", "s3", "3"],
    ["4xx", "s4", "4"],
    ["5xx", "s5", "5"],
  ];
  const series = samples.over((grown, seconds) => {
    const points = traffic(grown(REQUESTS));
    const buckets = ofRoutes(grown(TIMES));
    return {
      classes: classes.map(([, , digit]) => classIn(points, digit) / seconds),
      quantiles: [0.5, 0.95, 0.99].map((quantile) => samples.quantileMs(buckets, quantile)),
    };
  });
  const times = series.map(({ at }) => at);
  show(byId("traffic"), series, () =>
    chart({
      title: "Requests per second",
      times,
      stacked: true,
      format: rate,
      lines: classes.map(([name, color], index) => ({
        name,
        color,
        values: series.map(({ value }) => value.classes[index]),
      })),
    }),
  );
  show(byId("latency"), series, () =>
    chart({
      title: "Latency",
      times,
      format: duration,
      lines: ["p50", "p95", "p99"].map((name, index) => ({
        name,
        color: `q${index + 1}`,
        values: series.map(({ value }) => value.quantiles[index]),
      })),
    }),
  );
}

/**
 * @param {string} condition
 * @param {string} name
 * @param {[string, import("./dom.js").Child][]} facts
 * @param {string | null} [error]
 */
const part = (condition, name, facts, error) =>
  h(
    "li",
    {},
    h("div.row", {}, h("h3", {}, name), badge(condition)),
    h("dl.facts", {}, ...facts.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text)))),
    error && h("p.error", {}, h("strong", {}, "Last error: "), wordsOf(error)),
  );

/** @param {any} status */
function showUpstreams({ upstreams, authorizers = [] }) {
  const grown = samples.points("gateway_upstream_duration_seconds_bucket");
  const p95 = (/** @type {string} */ name) =>
    samples.quantileMs(
      grown.filter(({ labels }) => labels.upstream === name),
      0.95,
    );
  show(byId("upstreams"), [upstreams, authorizers, grown], () => [
    h(
      "ul.parts",
      {},
      ...upstreams.map((/** @type {any} */ each) =>
        part(
          each.status,
          each.name,
          [
            ["Circuit", stateOf(each.breakers)],
            ["Last answer", duration(each.last_response_ms)],
            ["Last request", ago(each.last_check_s_ago)],
            ["p95", duration(p95(each.name))],
            ["In flight", count(each.waiting)],
          ],
          each.last_error,
        ),
      ),
      ...authorizers.map((/** @type {any} */ each) =>
        part(
          each.status,
          `${each.name} (authorizer)`,
          [
            ["Circuit", wordsOf(each.breaker)],
            ["Cached decisions", count(each.cached_decisions)],
          ],
          each.last_error,
        ),
      ),
    ),
  ]);
}

/** @param {any} status */
function showIssuers({ issuers }) {
  show(byId("issuers"), issuers, () =>
    issuers.length === 0
      ? h("p.empty-list", {}, "The policy has no issuers.")
      : h(
          "ul.parts",
          {},
          ...issuers.map((/** @type {any} */ each) =>
            part(
              each.status,
              each.name,
              [
                ["Keys", each.keys === 0 && !each.last_error ? "not needed yet" : count(each.keys)],
                ["Key age", each.key_source === "policy" ? "in the policy" : age(each.keys_age_s)],
                ["Last refresh", ago(each.last_refresh_s_ago)],
                ...(each.keys_passed_over > 0
                  ? [/** @type {[string, string]} */ (["Unusable keys", count(each.keys_passed_over)])]
                  : []),
              ],
              each.last_error,
            ),
          ),
        ),
  );
}

function showCodes() {
  const rows = samples.by(samples.points("gateway_denials_total"), "code").filter(([, value]) => value > 0);
  show(byId("codes"), rows, () =>
    rows.length === 0
      ? h("p.empty-list", {}, "No refusals yet.")
      : bars(rows.slice(0, 8), count, (code) => h("code", { title: reasonOf(code).replaceAll("`", "") }, code)),
  );
}

const BY = /** @type {Record<string, string>} */ ({
  ip: "client address",
  failed_ip: "refused tokens of an address",
  user: "user",
});

/** @param {any} policy */
function showLimits(policy) {
  const refused = new Map(samples.by(samples.points("gateway_rate_limited_total"), "limit"));
  const limits = Object.entries(policy?.limits ?? {});
  const names = [...new Set([...limits.map(([name]) => name), ...refused.keys()])];
  show(byId("limits"), [limits, [...refused]], () =>
    names.length === 0
      ? h("p.empty-list", {}, "The policy has no rate limits.")
      : h(
          "table",
          {},
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Limit"), h("th.right", { scope: "col" }, "Refused"))),
          h(
            "tbody",
            {},
            ...names.map((name) => {
              const by = /** @type {any} */ (policy?.limits?.[name])?.by;
              return h(
                "tr",
                {},
                h("th", { scope: "row" }, name, by && h("span.muted.small.block", {}, `by ${BY[by] ?? by}`)),
                h("td.right", {}, count(refused.get(name) ?? 0)),
              );
            }),
          ),
        ),
  );
}

/** @param {any} revocation */
function showRevocation(revocation) {
  show(byId("revocation"), revocation, () =>
    revocation
      ? h(
          "ul.parts",
          {},
          part(
            revocation.status,
            plural(revocation.entries, "entry").replace("entrys", "entries"),
            [
              ["Age of the copy", revocation.age_ms === null ? "not read yet" : duration(revocation.age_ms)],
              ["Fits in memory", revocation.too_large_for_a_copy ? "no" : "yes"],
            ],
            revocation.last_error,
          ),
        )
      : h("p.empty-list", {}, "No tokens of this policy can be revoked."),
  );
}

function showRoutes() {
  const points = samples.points(REQUESTS);
  const buckets = samples.points(TIMES);
  const rows = samples.by(points, "route").slice(0, ROUTES);
  show(byId("routes"), [rows, points], () =>
    rows.length === 0
      ? h("p.empty-list", {}, "No requests yet.")
      : h(
          "table",
          {},
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              h("th", { scope: "col" }, "Route"),
              ...["Requests", "4xx", "5xx", "p50", "p95"].map((name) => h("th.right", { scope: "col" }, name)),
            ),
          ),
          h(
            "tbody",
            {},
            ...rows.map(([route, number]) => {
              const mine = points.filter(({ labels }) => labels.route === route);
              const times = buckets.filter(({ labels }) => labels.route === route);
              return h(
                "tr",
                {},
                h(
                  "th",
                  { scope: "row" },
                  route === "gateway" ? h("em", {}, "gateway’s own, and no route") : h("code", {}, route),
                ),
                h("td.right", {}, count(number)),
                cell(classIn(mine, "4"), "warn"),
                cell(classIn(mine, "5"), "bad"),
                h("td.right", {}, duration(samples.quantileMs(times, 0.5))),
                h("td.right", {}, duration(samples.quantileMs(times, 0.95))),
              );
            }),
          ),
        ),
  );
}

/** @param {number} number @param {string} kind */
const cell = (number, kind) => h(number > 0 ? `td.right.${kind}` : "td.right", {}, count(number));
