// The examples for Prometheus, Grafana and the collector: they are valid, and name metrics and codes that exist.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { parse } from "yaml";

import { ROOT } from "../../scripts/lib/paths.js";
import { temporaryFolder } from "../harness/run.js";
import { testScope } from "../harness/scope.js";

const read = (...path) => readFileSync(join(ROOT, ...path), "utf8");

// Names of metrics in a text, without the suffixes of a histogram's series.
const namesIn = (text) =>
  [...new Set([...text.matchAll(/gateway_\w+/g)].map(([name]) => name.replace(/_(bucket|sum|count)$/, "")))]
    .filter((name) => /_(total|seconds|state)$/.test(name))
    .sort();

// The families that /metrics has, and the series that the pipeline counts.
const metrics = read("src", "pipeline", "metrics.rs");
const families = namesIn(/const FAMILIES[\s\S]*?\];/.exec(metrics)[0]);
const counted = namesIn(
  readdirSync(join(ROOT, "src", "pipeline"))
    .map((name) => read("src", "pipeline", name).replace(/const FAMILIES[\s\S]*?\];/, ""))
    .join("\n"),
);

const dashboard = JSON.parse(read("deploy", "grafana", "dashboard.json"));
const alerts = read("deploy", "prometheus", "alerts.yml");
const expressions = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));

test("each metric that is counted is in /metrics, and each is documented", () => {
  assert.ok(families.length >= 13);
  assert.deepEqual(counted, families);
  const rows = [...read("docs", "observability.md").matchAll(/^\| `(gateway_\w+)` \|/gm)].map(([, name]) => name);
  assert.deepEqual(rows.toSorted(), families);
});

test("the dashboard shows each metric, and the alerts name only existing ones", () => {
  assert.deepEqual(namesIn(expressions.join("\n")), families);
  const alerted = namesIn(alerts);
  assert.ok(alerted.length > 4);
  assert.deepEqual(
    alerted.filter((name) => !families.includes(name)),
    [],
  );
});

test("the codes of the alerts are codes of the gateway", () => {
  const codes = [...alerts.matchAll(/code=~?"([^"]+)"/g)].flatMap(([, list]) => list.split("|"));
  assert.ok(codes.length >= 4);
  const denials = read("src", "pipeline", "denial.rs");
  for (const code of codes) assert.ok(denials.includes(`"${code}"`), code);
});

test("the panels of the dashboard have ids of their own and do not overlap", () => {
  const { panels } = dashboard;
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  for (const { gridPos: one, title, id } of panels) {
    assert.ok(one.x + one.w <= 24, title);
    for (const { gridPos: other, id: otherId } of panels) {
      const isApart =
        one.x + one.w <= other.x ||
        other.x + other.w <= one.x ||
        one.y + one.h <= other.y ||
        other.y + other.h <= one.y;
      assert.ok(id === otherId || isApart, title);
    }
  }
});

test("the collector receives OTLP over HTTP with authentication, and uses only what it configures", () => {
  const { extensions, receivers, processors, exporters, service } = parse(read("deploy", "otel-collector.yaml"));
  const { traces } = service.pipelines;
  for (const [used, known] of [
    [service.extensions, extensions],
    [traces.receivers, receivers],
    [traces.processors, processors],
    [traces.exporters, exporters],
  ])
    assert.deepEqual(used.toSorted(), Object.keys(known).toSorted());
  const { auth, tls } = receivers.otlp.protocols.http;
  assert.ok(auth.authenticator in extensions && tls.cert_file !== undefined);
});

const has = (command) => spawnSync(command, ["--version"]).error === undefined;

test("promtool accepts the alerts, the configuration and each expression of the dashboard", {
  skip: has("promtool") ? false : "promtool is not installed (Debian: apt install prometheus)",
}, (t) => {
  const folder = temporaryFolder(testScope(t), "prometheus");
  for (const name of ["alerts.yml", "prometheus.yml"])
    copyFileSync(join(ROOT, "deploy", "prometheus", name), join(folder, name));
  writeFileSync(join(folder, "metrics-token"), "");
  const record = (expr, index) => ({ record: `panel_${index}`, expr: expr.replaceAll("$__rate_interval", "5m") });
  writeFileSync(
    join(folder, "dashboard.yml"),
    JSON.stringify({ groups: [{ name: "dashboard", rules: expressions.map(record) }] }),
  );
  for (const args of [
    ["check", "config", "prometheus.yml"],
    ["check", "rules", "--lint-fatal", "alerts.yml"],
    ["check", "rules", "dashboard.yml"],
  ]) {
    const { status, stdout, stderr } = spawnSync("promtool", args, { cwd: folder, encoding: "utf8" });
    assert.equal(status, 0, stdout + stderr);
  }
});

test("the alerts fire on the series of a faulty gateway, and not on those of a healthy one", {
  skip: has("promtool") ? false : "promtool is not installed (Debian: apt install prometheus)",
}, (t) => {
  const folder = temporaryFolder(testScope(t), "prometheus");
  copyFileSync(join(ROOT, "deploy", "prometheus", "alerts.yml"), join(folder, "alerts.yml"));
  const names = [...alerts.matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const series = (name, values) => ({ series: name, values });
  const requests = (status, step) =>
    series(`gateway_requests_total{route="/a",method="GET",status="${status}"}`, `0+${step}x40`);
  const fault = [
    ["PortcullisDown", [series('up{job="portcullis"}', "0x40")]],
    ["PortcullisErrors", [requests(200, 60), requests(503, 10)]],
    ["PortcullisMisconfigured", [series('gateway_denials_total{code="gateway_misconfigured"}', "0+1x40")]],
    ["PortcullisKeysUnavailable", [series('gateway_denials_total{code="keys_unavailable"}', "0+5x40")]],
    ["PortcullisKeyRefreshFails", [series('gateway_key_refresh_total{issuer="i",result="timeout"}', "0+1x40")]],
    ["PortcullisRevocationLogUnavailable", [series('gateway_denials_total{code="revocation_unavailable"}', "0+1x40")]],
    ["PortcullisCircuitOpen", [series('gateway_breaker_state{upstream="u"}', "2x40")]],
    [
      "PortcullisSlowUpstream",
      ["0.5", "2.5", "5", "+Inf"].map((le, index) =>
        series(`gateway_upstream_duration_seconds_bucket{upstream="u",le="${le}"}`, `0+${index * 10}x40`),
      ),
    ],
    ["PortcullisGuessing", [series('gateway_rate_limited_total{limit="login"}', "0+600x40")]],
  ];
  assert.deepEqual(
    fault.map(([name]) => name),
    names,
  );
  const healthy = [
    series('up{job="portcullis"}', "1x40"),
    requests(200, 60),
    series('gateway_breaker_state{upstream="u"}', "0x40"),
    series('gateway_key_refresh_total{issuer="i",result="ok"}', "0+1x40"),
  ];
  const firing = (alertname, input_series, isFiring) => ({
    interval: "1m",
    input_series,
    promql_expr_test: [
      {
        expr: `count(ALERTS{alertname="${alertname}",alertstate="firing"}) or vector(0)`,
        eval_time: "35m",
        exp_samples: [{ labels: "{}", value: isFiring ? 1 : 0 }],
      },
    ],
  });
  const tests = fault.flatMap(([name, input]) => [firing(name, input, true), firing(name, healthy, false)]);
  writeFileSync(join(folder, "test.yml"), JSON.stringify({ rule_files: ["alerts.yml"], tests }));
  const { status, stdout, stderr } = spawnSync("promtool", ["test", "rules", "test.yml"], {
    cwd: folder,
    encoding: "utf8",
  });
  assert.equal(status, 0, stdout + stderr);
});
