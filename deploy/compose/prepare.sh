#!/bin/sh
# Makes the secrets and folders of compose.yaml. What exists is kept.
#
#   ./prepare.sh             for the example services
#   ./prepare.sh UPSTREAM…   also the secrets that the gateway shares with these upstreams of policy/gateway.toml
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

mkdir -p secrets state/edge policy
# The policy is not secret, and the user of the container may be another one.
chmod 755 policy
for file in gateway.toml wrangler.toml; do
  [ -e "policy/$file" ] || install -m 644 "../../$file" "policy/$file"
done
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

for upstream in "$@"; do
  case "$upstream" in
    '' | *[!A-Za-z0-9_-]*)
      echo "$0: \"$upstream\" is not the name of an upstream" >&2
      exit 1
      ;;
  esac
  secret "ASSERTION_KEYS_$(printf %s "$upstream" | tr 'a-z-' 'A-Z_')" "k1:$(random)"
done

# Other variables are kept.
{
  grep -v '^PORTCULLIS_[UG]ID=' .env 2>/dev/null || true
  printf 'PORTCULLIS_UID=%s\nPORTCULLIS_GID=%s\n' "$uid" "$gid"
} >.env.new
mv .env.new .env
if [ "$(id -u)" = 0 ]; then chown -R "$uid:$gid" secrets state; fi

echo "Ready. Start the services: docker compose build && docker compose up --detach --wait"
echo "The administrator is admin@example.com; the password is in $(pwd)/secrets/ADMIN_PASSWORD"
