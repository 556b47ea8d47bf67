# The bindings of wrangler.toml, without the KV namespace, which main.tf creates.

locals {
  compatibility_date = "2026-10-23"
  crons              = ["*/5 * * * *"]
  vars               = merge({ LIVE_POLICY = "true" }, var.vars)

  bindings = concat(
    [
      { type = "durable_object_namespace", name = "REVOCATIONS", class_name = "Revocations" },
      { type = "durable_object_namespace", name = "METRICS", class_name = "Metrics" },
      { type = "version_metadata", name = "CF_VERSION_METADATA" },
    ],
    [for name, limit in var.limits : {
      type         = "ratelimit"
      name         = name
      namespace_id = limit.namespace_id
      simple       = { limit = limit.limit, period = limit.period }
    }],
    [for name, value in local.vars : { type = "plain_text", name = name, text = value }],
    [for name in nonsensitive(keys(var.secrets)) : { type = "secret_text", name = name, text = var.secrets[name] }],
  )
}
