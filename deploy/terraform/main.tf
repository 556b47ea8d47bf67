# One environment of the gateway: its Worker, KV namespace, domain, routes and cron trigger.

terraform {
  required_version = ">= 1.6"

  required_providers {
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "~> 5.17"
    }
  }
}

locals {
  content_types = {
    js   = "application/javascript+module"
    wasm = "application/wasm"
  }
  modules = [for name in fileset(var.modules_folder, "**/*.{js,wasm}") : {
    name         = name
    content_file = "${var.modules_folder}/${name}"
    content_type = local.content_types[reverse(split(".", name))[0]]
  }]
}

resource "cloudflare_workers_kv_namespace" "keys" {
  account_id = var.account_id
  title      = "${var.name}-KEYS"
}

resource "cloudflare_worker" "gateway" {
  account_id = var.account_id
  name       = var.name

  observability = {
    enabled = true
  }

  # The Cache API does nothing on workers.dev.
  subdomain = {
    enabled          = false
    previews_enabled = false
  }
}

resource "cloudflare_worker_version" "gateway" {
  account_id         = var.account_id
  worker_id          = cloudflare_worker.gateway.id
  compatibility_date = local.compatibility_date
  main_module        = "entry.js"
  modules            = local.modules
  migrations         = var.migration

  bindings = concat(local.bindings, [{
    type         = "kv_namespace"
    name         = "KEYS"
    namespace_id = cloudflare_workers_kv_namespace.keys.id
  }])
}

# For a gradual rollout, deploy versions by deploy/deploy.sh, and remove this resource from the state.
resource "cloudflare_workers_deployment" "gateway" {
  account_id  = var.account_id
  script_name = cloudflare_worker.gateway.name
  strategy    = "percentage"

  versions = [{
    version_id = cloudflare_worker_version.gateway.id
    percentage = 100
  }]
}

resource "cloudflare_workers_custom_domain" "gateway" {
  account_id = var.account_id
  zone_id    = var.zone_id
  hostname   = var.hostname
  service    = cloudflare_worker.gateway.name

  depends_on = [cloudflare_workers_deployment.gateway]
}

# The host of the operators' page.
resource "cloudflare_workers_custom_domain" "operators" {
  for_each = toset([for name, host in var.vars : host if name == "OPERATORS_HOST"])

  account_id = var.account_id
  zone_id    = var.zone_id
  hostname   = each.value
  service    = cloudflare_worker.gateway.name

  depends_on = [cloudflare_workers_deployment.gateway]
}

resource "cloudflare_workers_route" "gateway" {
  for_each = var.routes

  zone_id = var.zone_id
  pattern = each.value
  script  = cloudflare_worker.gateway.name

  depends_on = [cloudflare_workers_deployment.gateway]
}

resource "cloudflare_workers_cron_trigger" "keys" {
  account_id  = var.account_id
  script_name = cloudflare_worker.gateway.name
  schedules   = [for cron in local.crons : { cron = cron }]

  depends_on = [cloudflare_workers_deployment.gateway]
}
