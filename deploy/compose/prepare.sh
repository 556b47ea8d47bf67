#!/bin/sh
# Makes the secrets and folders of compose.yaml, once. What exists is kept.
set -eu
cd "$(dirname "$0")"
umask 077

uid="$(id -u)"
gid="$(id -g)"
if [ "$uid" = 0 ]; then uid=10001 gid=10001; fi

random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }

secret() {
  [ -e "secrets/$1" ] || printf '%s\n' "$2" >"secrets/$1"
}

mkdir -p secrets state/edge
secret MASTER_KEY "$(random)"
secret ASSERTION_KEYS_AUTH "k1:$(random)"
secret ASSERTION_KEYS_USERS "k1:$(random)"
secret SERVICE_SECRET_AUTH_SERVICE "$(random)"
secret SERVICE_SECRET_USER_SERVICE "$(random)"
secret METRICS_TOKEN "$(random)"
secret OPERATORS_TOKEN "$(random)"
secret ADMIN_PASSWORD "$(random)"
secret POSTGRES_PASSWORD "$(random)"
secret pgpass "postgres:5432:*:portcullis:$(cat secrets/POSTGRES_PASSWORD)"

printf 'PORTCULLIS_UID=%s\nPORTCULLIS_GID=%s\n' "$uid" "$gid" >.env
if [ "$(id -u)" = 0 ]; then chown -R "$uid:$gid" secrets state; fi

echo "Ready. Start the services: docker compose up --detach --wait"
echo "The administrator is admin@example.com; the password is in $(pwd)/secrets/ADMIN_PASSWORD"
