#!/usr/bin/env bash
# Start or update the gateway on this host with Docker Compose, and wait until it is healthy.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE
readonly MORE_EDGES=(api-edge-2 api-edge-3)
readonly NETWORK=lucid-network
readonly SECRETS=(
    secret_key jwt_secret_key identity_signing_secret edge_secret
    mongodb_root_password mongodb_uri redis_password redis_url email_host_password
)

usage() {
    cat <<'TEXT'
Usage: deploy/deploy.sh [--init] [--self-signed NAMES] [--scale] [--recreate] [--timeout SECONDS]

Checks the secrets, starts the services of deploy/docker-compose.yml and waits until the edge and the gateway are healthy.
Settings come from deploy/.env (see deploy/.env.example). Build the image first with deploy/build.sh.

  --init               first create each missing secret with a random value
  --self-signed NAMES  first create a certificate for these names and addresses (separated by commas) if none exists
  --scale              run three gateways with an edge each, Redis with a replica and Sentinels, and three MongoDBs, as
                       deploy/docker-compose.scale.yml says; needs empty volumes, and secrets of its own (SECRETS_DIR)
  --recreate           replace all containers, so that changed secrets and certificates take effect
  --timeout SECONDS    how long to wait for the services to become healthy   [120]
  --help               print this text

Secrets are files in $SECRETS_DIR [deploy/secrets]:
  secret_key, jwt_secret_key           at least 32 characters
  identity_signing_secret              at least 32 characters; the clusters verify with it
  edge_secret                          at least 32 characters; the edge shows it to the gateway
  mongodb_root_password                used at the first start only; later changes have no effect
  mongodb_uri                          with the gateway's own user and password
  redis_password, redis_url            the URL must contain the same password
  mongodb_replica_set_key              with --scale only: the key that the members of the replica set share
  email_host_password                  empty if the mail server needs no password
  api-gateway.crt, api-gateway.key     the certificate with its chain, and its key

Exit status: 0 healthy; 1 not deployed, or not healthy in time (prints the last log lines of the services).
TEXT
}

fail() {
    echo "deploy.sh: $*" >&2
    exit 1
}

parse_arguments() {
    init=false names="" scale=false recreate=() timeout=120
    while (($#)); do
        case $1 in
            --init) init=true; shift ;;
            --self-signed) names=${2:?deploy.sh: --self-signed needs names}; shift 2 ;;
            --scale) scale=true; shift ;;
            --recreate) recreate=(--force-recreate); shift ;;
            --timeout) timeout=${2:?deploy.sh: --timeout needs seconds}; shift 2 ;;
            --help | -h) usage; exit 0 ;;
            *) usage >&2; fail "unknown argument: $1" ;;
        esac
    done
    [[ $timeout =~ ^[1-9][0-9]*$ ]] || fail "--timeout: expected a number of seconds"
    files=(--file "$HERE/docker-compose.yml") edges=(api-edge) containers=(lucid-api-gateway lucid-api-edge)
    mongodb=api-mongodb:27017 redis=redis://%s@api-redis:6379/0
    if $scale; then use_scale; fi
}

use_scale() {
    files+=(--file "$HERE/docker-compose.scale.yml")
    edges+=("${MORE_EDGES[@]}")
    containers+=(lucid-api-gateway-2 lucid-api-gateway-3 "${MORE_EDGES[@]/#/lucid-}")
    mongodb+=,api-mongodb-2:27017,api-mongodb-3:27017
    redis=sentinel://%s@api-sentinel-1:26379,api-sentinel-2:26379,api-sentinel-3:26379/lucid/0
}

# ---- secrets

# The folder's mode keeps the host's other users out; the containers' users can read the files (see docker-compose.yml).
make_secrets_folder() {
    mkdir -p "$SECRETS_DIR"
    chmod 0700 "$SECRETS_DIR"
}

# create NAME VALUE: write the secret unless it exists.
create() {
    local path=$SECRETS_DIR/$1
    if [[ ! -e $path ]]; then
        (umask 0222 && printf '%s' "$2" > "$path")
        echo "created $path"
    fi
}

random() {
    openssl rand -hex 32
}

create_secrets() {
    command -v openssl > /dev/null || fail "openssl is not installed"
    make_secrets_folder
    create secret_key "$(random)"
    create jwt_secret_key "$(random)"
    create identity_signing_secret "$(random)"
    create edge_secret "$(random)"
    create mongodb_root_password "$(random)"
    create mongodb_uri "mongodb://lucid_gateway:$(random)@$mongodb/lucid_gateway?replicaSet=rs0"
    if $scale; then create mongodb_replica_set_key "$(random)"; fi
    create redis_password "$(random)"
    # shellcheck disable=SC2059  # the format is one of the two above
    create redis_url "$(printf "$redis" ":$(< "$SECRETS_DIR/redis_password")")"
    create email_host_password ""
}

# alternative_names NAME,ADDRESS: print the list as a subjectAltName.
alternative_names() {
    local entries=() name
    IFS=, read -ra parts <<< "$1"
    for name in "${parts[@]}"; do
        if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then entries+=("IP:$name"); else entries+=("DNS:$name"); fi
    done
    (IFS=,; echo "${entries[*]}")
}

create_certificate() {
    local certificate=$SECRETS_DIR/api-gateway.crt key=$SECRETS_DIR/api-gateway.key
    command -v openssl > /dev/null || fail "openssl is not installed"
    if [[ -e $certificate || -e $key ]]; then return; fi
    make_secrets_folder
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
        -subj "/CN=${names%%,*}" -addext "subjectAltName=$(alternative_names "$names")" \
        -keyout "$key" -out "$certificate" 2> /dev/null || fail "openssl could not make a certificate for: $names"
    chmod 0444 "$key" "$certificate"
    echo "created $certificate (self-signed, for trials only)"
}

# ---- checks

check_folder() {
    [[ -d $SECRETS_DIR ]] || fail "$SECRETS_DIR is missing; --init creates it"
    [[ $(stat --format %a "$SECRETS_DIR") == *00 ]] || fail "$SECRETS_DIR is open to other users; set its mode to 0700"
}

check_exists() {
    [[ -r $SECRETS_DIR/$1 ]] || fail "$SECRETS_DIR/$1 is missing or cannot be read; $2"
}

check_long() {
    local length
    length=$(tr -d '\r\n' < "$SECRETS_DIR/$1" | wc -m)
    ((length >= 32)) || fail "$SECRETS_DIR/$1 has $length characters; expected at least 32"
}

check_not_empty() {
    [[ -s $SECRETS_DIR/$1 ]] || fail "$SECRETS_DIR/$1 is empty"
}

check_password_in_url() {
    [[ $(< "$SECRETS_DIR/redis_url") == *":$(< "$SECRETS_DIR/redis_password")@"* ]] ||
        fail "$SECRETS_DIR/redis_url does not contain the password in redis_password"
}

check_secrets() {
    local name
    check_folder
    for name in "${SECRETS[@]}"; do
        check_exists "$name" "--init creates it"
    done
    if $scale; then check_exists mongodb_replica_set_key "--init creates it"; fi
    for name in api-gateway.crt api-gateway.key; do
        check_exists "$name" "put the certificate there, or try --self-signed"
    done
    check_long secret_key
    check_long jwt_secret_key
    check_long identity_signing_secret
    check_long edge_secret
    check_not_empty mongodb_root_password
    check_not_empty redis_password
    check_password_in_url
}

check_docker() {
    command -v docker > /dev/null || fail "docker is not installed"
    docker compose version > /dev/null 2>&1 || fail "docker compose (version 2) is not installed"
    docker info > /dev/null 2>&1 || fail "the Docker engine does not answer"
}

# ---- start

compose() {
    docker compose --project-directory "$HERE" "${files[@]}" "$@"
}

health_of() {
    docker inspect --format '{{.State.Health.Status}}' "$1" 2> /dev/null || echo missing
}

all_healthy() {
    local container
    for container in "${containers[@]}"; do
        [[ $(health_of "$container") == healthy ]] || return 1
    done
}

wait_for_health() {
    local give_up_at=$((SECONDS + timeout))
    until all_healthy; do
        ((SECONDS < give_up_at)) || return 1
        sleep 1
    done
}

give_up() {
    echo "The last lines of each service:" >&2
    compose logs --tail 40 --no-color >&2 || true
    fail "$1"
}

main() {
    local edge
    parse_arguments "$@"
    SECRETS_DIR=$(realpath --canonicalize-missing "${SECRETS_DIR:-$HERE/secrets}")
    export SECRETS_DIR
    if $init; then create_secrets; fi
    if [[ -n $names ]]; then create_certificate; fi
    check_secrets
    check_docker
    docker network inspect "$NETWORK" > /dev/null 2>&1 || docker network create "$NETWORK" > /dev/null
    compose up --detach --remove-orphans "${recreate[@]}" || give_up "the services did not start"
    wait_for_health || give_up "not healthy within $timeout s"
    # The configuration in the volume may be new, although the containers of the edges are not.
    for edge in "${edges[@]}"; do
        compose exec -T "$edge" openresty -p /tmp -c /etc/lucid-edge/nginx.conf -e stderr -s reload
    done
    compose exec -T api-gateway /usr/bin/python3 deploy/health_check.py
    echo "The gateway is up: $(compose port api-edge 8081) (TLS), $(compose port api-edge 8080) (this host only)"
}

main "$@"
