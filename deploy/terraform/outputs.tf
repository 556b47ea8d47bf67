output "url" {
  description = "GATEWAY_URL of deploy/deploy.sh."
  value       = "https://${var.hostname}"
}

output "version" {
  description = "Id of the deployed version, worker_version in /status."
  value       = cloudflare_worker_version.gateway.id
}

output "keys_namespace" {
  description = "Id of the KV namespace, for wrangler.toml and npm run policy:push."
  value       = cloudflare_workers_kv_namespace.keys.id
}
