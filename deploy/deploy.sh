#!/bin/sh
# Deploys the gateway to an environment of wrangler.toml: checks, tests, uploads a version, checks it at 0 % of the
# requests, raises its share, and rolls back if a check fails. docs/deploying.md describes it.

set -eu

usage() {
  cat <<'HELP'
deploy/deploy.sh ENVIRONMENT [--first] [--skip-tests]

  ENVIRONMENT    an environment of wrangler.toml, such as staging
  --first        the first deployment, or one with a migration of Durable Objects: at once, for all requests
  --skip-tests   leaves out npm test, if an earlier step of the pipeline ran it

  GATEWAY_URL           URL of the gateway in this environment
  METRICS_TOKEN         the gateway's secret of this name
  ROLLOUT               shares in percent, "10 50 100" by default
  ROLLOUT_PAUSE_S       seconds between two shares (60)
  SMOKE_TRIES           attempts until the new version must answer (15), SMOKE_PAUSE_S (2) seconds apart
  CLOUDFLARE_API_TOKEN, CLOUDFLARE_ACCOUNT_ID    without the login of wrangler
HELP
}

say() { printf '%s\n' "deploy: $*"; }
fail() {
  printf '%s\n' "deploy: $*" >&2
  exit 1
}

environment=
first=false
tests=true
for argument in "$@"; do
  case $argument in
    -h | --help) usage && exit 0 ;;
    --first) first=true ;;
    --skip-tests) tests=false ;;
    -*) usage >&2 && exit 2 ;;
    *) [ -z "$environment" ] || { usage >&2 && exit 2; }; environment=$argument ;;
  esac
done
[ -n "$environment" ] || { usage >&2 && exit 2; }
case ${GATEWAY_URL:-} in
  https://* | http://127.0.0.1:*) ;;
  *) fail "GATEWAY_URL is not set to an https:// URL; the token of the metrics is sent to it." ;;
esac
[ -n "${METRICS_TOKEN:-}" ] || fail "METRICS_TOKEN is not set: without it, the details of /ready cannot be read."
rollout=${ROLLOUT:-"10 50 100"}
pause_s=${ROLLOUT_PAUSE_S:-60}
tries=${SMOKE_TRIES:-15}
last=
for share in $rollout; do
  case $share in *[!0-9]* | '') fail "ROLLOUT must be whole percentages." ;; esac
  last=$share
done
[ "$last" = 100 ] || fail "ROLLOUT must end with 100."

cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

wrangler() { npx --no-install wrangler "$@" --env "$environment"; }

# Prints a member of the last JSON line of a file that has it.
member() {
  node -e '
    const [file, path] = process.argv.slice(1);
    const lines = require("fs").readFileSync(file, "utf8").split("\n").filter(Boolean);
    const values = lines.map((line) => path.split(".").reduce((value, name) => value?.[name], JSON.parse(line)));
    const found = values.filter((value) => value !== undefined && value !== null).pop();
    if (found === undefined) process.exit(1);
    console.log(found);
  ' "$1" "$2"
}

# Prints the version with the largest share of the deployment.
deployed_version() {
  wrangler deployments status --json >"$scratch/status" || return 1
  node -e '
    const { versions } = JSON.parse(require("fs").readFileSync(process.argv[1], "utf8"));
    const [first] = [...versions].sort((a, b) => b.percentage - a.percentage);
    console.log(first.version_id);
  ' "$scratch/status"
}

# Asks an endpoint as an operator. The token is not an argument, which other users of the machine could read.
ask() {
  {
    printf 'header = "authorization: Bearer %s"\n' "$METRICS_TOKEN"
    printf 'header = "Cloudflare-Workers-Version-Overrides: %s=\\"%s\\""\n' "$worker" "$new"
  } | curl --silent --show-error --max-time 10 --config - --output "$2" --write-out '%{http_code}' "${GATEWAY_URL%/}$1"
}

# Unlike a command in the foreground, wait ends when a signal arrives.
pause() {
  sleep "$1" &
  wait $!
}

# Whether the new version answers, and is ready.
is_ready() {
  # An unhealthy gateway answers 503, with its version.
  ask /status "$scratch/answer" >/dev/null || return 1
  version=$(member "$scratch/answer" worker_version 2>/dev/null) || version=none
  [ "$version" = "$new" ] || { reason="version $version answers"; return 1; }
  [ "$(ask /ready "$scratch/answer")" = 200 ] || { reason=$(tr -cd '[:print:]' <"$scratch/answer" | cut -c1-500); return 1; }
}

smoke() {
  reason="no answer"
  attempt=1
  until is_ready; do
    [ "$attempt" -lt "$tries" ] || { say "$new is not ready: $reason"; return 1; }
    attempt=$((attempt + 1))
    pause "${SMOKE_PAUSE_S:-2}"
  done
  say "$new is ready ($1)"
}

say "check $environment"
npm run --silent check -- --env "$environment" || fail "The check failed; nothing was changed."
if $tests; then
  say "test"
  npm test || fail "The tests failed; nothing was changed."
fi
say "build"
export WRANGLER_OUTPUT_FILE_PATH="$scratch/output"
: >"$scratch/output"
wrangler deploy --dry-run || fail "The build failed; nothing was changed."

if $first; then
  old=$(deployed_version 2>/dev/null) || old=
  say "deploy"
  wrangler deploy || fail "The deployment failed."
  new=$(member "$scratch/output" version_id) || fail "wrangler named no version."
  worker=$(member "$scratch/output" worker_name) || fail "wrangler named no Worker."
  smoke "all requests" && exit 0
  fail "$new stays deployed. Set what is missing${old:+, or, unless it had a migration, run: npx wrangler rollback $old --env $environment}."
fi

npm run --silent secrets -- --env "$environment" || fail "A secret is not set; nothing was changed."
old=$(deployed_version) || fail "There is no deployment yet; see --first."

say "upload"
revision=$(git rev-parse --short=12 HEAD 2>/dev/null) || revision=unknown
wrangler versions upload --tag "$revision" --message "$revision" ||
  fail "The upload failed; nothing was changed. A migration of Durable Objects needs --first."
new=$(member "$scratch/output" version_id) || fail "wrangler named no version."
worker=$(member "$scratch/output" worker_name) || fail "wrangler named no Worker."

roll_back() {
  trap - INT TERM HUP
  say "roll back to $old"
  wrangler versions deploy "$old@100" --yes --message "roll back $revision" ||
    fail "The rollback failed. Run: npx wrangler versions deploy $old@100 --env $environment"
  fail "$1 All requests are served by $old again."
}
trap 'roll_back "The deployment was interrupted."' INT TERM HUP

# At 0 % only requests that name the version reach it.
for share in 0 $rollout; do
  say "$share % to $new"
  if [ "$share" = 100 ]; then set -- "$new@100"; else set -- "$new@$share" "$old@$((100 - share))"; fi
  wrangler versions deploy "$@" --yes --message "$revision" || roll_back "The deployment failed."
  smoke "$share %" || roll_back "The check of $new failed."
  case $share in 0 | 100) ;; *) pause "$pause_s" ;; esac
done

# Routes and cron triggers belong to no version.
wrangler triggers deploy || fail "$new is deployed, but its routes and triggers are not those of wrangler.toml."
say "$new is deployed to $environment"
