#!/usr/bin/env bash
# Build the gateway's distroless image and check that its packages can be imported.
set -euo pipefail

readonly IMAGE=lucid-api-gateway
ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly ROOT

usage() {
    cat <<'TEXT'
Usage: deploy/build.sh [--version VERSION] [--platform PLATFORM] [--sbom FILE]

Builds the image lucid-api-gateway:VERSION (and :latest).

  --version VERSION    tag and label of the image  [$VERSION, or 1.0.0]
  --platform PLATFORM  such as linux/arm64         [the engine's platform]
  --sbom FILE          write the Debian and Python packages in the image to FILE, as CycloneDX JSON
  --help               print this text
TEXT
}

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

parse_arguments() {
    version=${VERSION:-1.0.0}
    platform=() sbom=""
    while (($#)); do
        case $1 in
            --version) version=${2:?build.sh: --version needs a value}; shift 2 ;;
            --platform) platform=(--platform "${2:?build.sh: --platform needs a value}"); shift 2 ;;
            --sbom) sbom=${2:?build.sh: --sbom needs a value}; shift 2 ;;
            --help | -h) usage; exit 0 ;;
            *) usage >&2; fail "unknown argument: $1" ;;
        esac
    done
    [[ $version =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$ ]] || fail "not a valid image tag: $version"
}

build_image() {
    # Only BuildKit reads Dockerfile.dockerignore.
    DOCKER_BUILDKIT=1 docker build \
        "${platform[@]}" \
        --file "$ROOT/deploy/Dockerfile" \
        --build-arg "VERSION=$version" \
        --build-arg "REVISION=$(git -C "$ROOT" rev-parse HEAD 2> /dev/null || echo unknown)" \
        --build-arg "BUILD_DATE=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
        --tag "$IMAGE:$version" \
        --tag "$IMAGE:latest" \
        "$ROOT"
}

verify_image() {
    # Missing libraries and optional packages show up here instead of at the first request.
    docker run --rm "${platform[@]}" "$IMAGE:$version" -c \
        'import argon2, bcrypt, cryptography.fernet, gunicorn.workers.ggevent, hiredis, lucid_gateway, orjson, pymongo, redis'
}

# Python reads the script from its standard input: it is not part of the image.
write_sbom() {
    docker run --rm --interactive "${platform[@]}" "$IMAGE:$version" - "$IMAGE" "$version" < "$ROOT/deploy/sbom.py" > "$sbom"
}

main() {
    parse_arguments "$@"
    command -v docker > /dev/null || fail "docker is not installed"
    echo "Building $IMAGE:$version ..."
    build_image || fail "the build failed"
    verify_image || fail "the image was built, but its packages cannot be imported"
    if [[ -n $sbom ]]; then write_sbom || fail "the image was built, but $sbom could not be written"; fi
    echo "Built $IMAGE:$version"
}

main "$@"
