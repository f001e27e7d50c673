#!/usr/bin/env bash
# Check the health of a gateway from outside, and print its answer.
set -euo pipefail

readonly DEFAULT_URL=http://localhost:8080/api/v1/meta/health

usage() {
    cat <<TEXT
Usage: deploy/health_check.sh [--insecure] [URL]

Prints the health document of the gateway at URL [$DEFAULT_URL].

  --insecure  accept a certificate that cannot be verified
  --help      print this text

Exit status: 0 healthy or degraded; 1 unhealthy, no answer, or not a health document.
TEXT
}

fail() {
    echo "health_check.sh: $*" >&2
    exit 1
}

main() {
    local url=$DEFAULT_URL options=() answer status document
    while (($#)); do
        case $1 in
            --insecure) options+=(--insecure) ;;
            --help | -h) usage; exit 0 ;;
            -*) usage >&2; fail "unknown option: $1" ;;
            *) url=$1 ;;
        esac
        shift
    done
    command -v curl > /dev/null || fail "curl is not installed"
    answer=$(curl --silent --show-error --max-time 10 "${options[@]}" --write-out '\n%{http_code}' -- "$url") || fail "no answer from $url"
    status=${answer##*$'\n'} document=${answer%$'\n'*}
    echo "$document"
    [[ $status == 200 ]] || fail "$url answered $status"
    [[ $document =~ \"status\"[[:space:]]*:[[:space:]]*\"(healthy|degraded)\" ]] || fail "$url is not healthy"
}

main "$@"
