variable "account_id" {
  description = "The Cloudflare account."
  type        = string
}

variable "zone_id" {
  description = "The zone of the hostname."
  type        = string
}

variable "name" {
  description = "Name of the Worker, one for each environment."
  type        = string
  default     = "portcullis-production"
}

variable "hostname" {
  description = "Custom domain of the gateway, such as gateway.example.com."
  type        = string
}

variable "routes" {
  description = "Further routes of the zone, such as example.com/api/*."
  type        = set(string)
  default     = []
}

variable "modules_folder" {
  description = "Folder of the Worker's modules: npx wrangler deploy --dry-run --outdir dist"
  type        = string
}

variable "vars" {
  description = "Variables of docs/operations.md, such as UPSTREAM_AUTH_URL."
  type        = map(string)
  default     = {}

  validation {
    condition     = lookup(var.vars, "DEVELOPMENT", "false") != "true"
    error_message = "DEVELOPMENT must not be true in a deployment."
  }

  validation {
    condition = alltrue([
      for name, value in var.vars : alltrue([for url in split(",", value) : startswith(trimspace(url), "https://")])
      if endswith(name, "_URL")
    ])
    error_message = "Each URL must be https://."
  }
}

variable "secrets" {
  description = "Secrets of docs/operations.md, such as ASSERTION_KEYS_AUTH. The state holds them: encrypt it."
  type        = map(string)
  sensitive   = true
}

variable "limits" {
  description = "The rate limits of the policy by binding. No other Worker of the account may use their namespace ids."
  type = map(object({
    namespace_id = string
    limit        = number
    period       = number
  }))
  default = {
    LIMIT_LOGIN         = { namespace_id = "3001", limit = 100, period = 60 }
    LIMIT_REFRESH       = { namespace_id = "3003", limit = 600, period = 60 }
    LIMIT_FAILED_TOKENS = { namespace_id = "3002", limit = 1000, period = 60 }
  }

  validation {
    condition     = length(distinct([for limit in var.limits : limit.namespace_id])) == length(var.limits)
    error_message = "Each limit must have a namespace id of its own."
  }

  validation {
    condition     = alltrue([for limit in var.limits : contains([10, 60], limit.period)])
    error_message = "A period must be 10 or 60 seconds."
  }
}

variable "migration" {
  description = "Migration of Durable Objects that this version applies: { new_tag, new_sqlite_classes }. null once it is applied."
  type = object({
    old_tag            = optional(string)
    new_tag            = string
    new_sqlite_classes = list(string)
  })
  default = {
    new_tag            = "v1"
    new_sqlite_classes = ["Revocations", "Metrics"]
  }
}
