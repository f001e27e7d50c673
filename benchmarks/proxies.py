"""Other proxies, each set up to check the same request as far as it can, with one thread on the server's core.

None of them knows revocations, locks, or a limit that several machines share, and none writes an access log here.
"""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from benchmarks.environments import peers_environment
from benchmarks.gateway import SECRET
from benchmarks.load import Target
from benchmarks.processes import SERVER_CORE, Stage
from benchmarks.rounds import Server
from demo.children import free_port
from lucid_gateway.policy.claims import AUDIENCE, ISSUER

PLENTY = 1_000_000_000  # the requests in a minute that their limits admit
HTTP = "envoy.filters.http"
TYPES = "type.googleapis.com/envoy.extensions.filters"
HAPROXY = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout client 30s
    timeout server 30s
    timeout connect 5s
frontend clients
    bind 127.0.0.1:{port}
    monitor-uri /health
    stick-table type string len 64 size 100k expire 60s store http_req_rate(60s)
    http-request set-var(txn.token) http_auth_bearer
    http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify("HS256","{secret}") -m int 1 }}
    http-request set-var(txn.user) var(txn.token),jwt_payload_query('$.user_id')
    http-request track-sc0 var(txn.user)
    http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {plenty} }}
    http-request set-header X-User-Id %[var(txn.user)]
    http-request del-header Authorization
    default_backend cluster
backend cluster
    http-reuse always
    server instance {backend}
"""
TRAEFIK = """
entryPoints: {{clients: {{address: "127.0.0.1:{port}"}}}}
providers: {{file: {{filename: "{routes}"}}}}
global: {{checkNewVersion: false, sendAnonymousUsage: false}}
log: {{level: ERROR}}
"""
TRAEFIK_ROUTES = """
http:
    routers: {{all: {{rule: "PathPrefix(`/`)", service: cluster, middlewares: [limit], entryPoints: [clients]}}}}
    middlewares: {{limit: {{rateLimit: {{average: {plenty}, burst: {plenty}, period: 1m}}}}}}
    services: {{cluster: {{loadBalancer: {{servers: [{{url: "{backend}"}}]}}}}}}
"""


def envoy(stage: Stage, backend: str, path: str, token: str, *, remembered_tokens: int = 0) -> Server:
    """Start Envoy with token and local limit. By default it verifies the token of each request, as it does unless told
    otherwise.
    """
    port, binary = free_port(), peers_environment() / "envoy"
    name = f"envoy-{remembered_tokens}"
    configuration = stage.directory / f"{name}.json"
    configuration.write_text(json.dumps(envoy_configuration(port, backend, remembered_tokens)))
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return _serve(stage, name, [binary, "-c", configuration, *options], _target(port, path, token))


def envoy_configuration(port: int, backend: str, remembered_tokens: int) -> dict[str, Any]:
    """One listener that answers /health itself and forwards everything else to the backend."""
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "http_filters": list(envoy_filters(remembered_tokens)),
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"path": "/health"}, "direct_response": {"status": 200}},
            {"match": {"prefix": "/"}, "route": {"cluster": "cluster"}},
        ]}]},
    }  # fmt: skip
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    host, backend_port = backend.removeprefix("http://").split(":")
    instance = {"endpoint": {"address": envoy_address(host, int(backend_port))}}
    cluster = {"name": "cluster", "connect_timeout": "2s", "load_assignment": {
        "cluster_name": "cluster", "endpoints": [{"lb_endpoints": [instance]}],
    }}  # fmt: skip
    listener = {"address": envoy_address("127.0.0.1", port), "filter_chains": [chain]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def envoy_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def envoy_filters(remembered_tokens: int) -> Iterator[dict[str, Any]]:
    """Yield the token's check, then the limit and the router."""
    key = base64.urlsafe_b64encode(SECRET.encode()).rstrip(b"=").decode()
    issuer = {
        "issuer": ISSUER, "audiences": [AUDIENCE],
        "local_jwks": {"inline_string": json.dumps({"keys": [{"kty": "oct", "alg": "HS256", "k": key}]})},
        "claim_to_headers": [{"header_name": "x-user-id", "claim_name": "user_id"}],
    }  # fmt: skip
    if remembered_tokens:
        issuer["jwt_cache_config"] = {"jwt_cache_size": remembered_tokens}
    rules = [{"match": {"path": "/health"}}, {"match": {"prefix": "/"}, "requires": {"provider_name": "gateway"}}]
    all_requests = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    bucket = {"max_tokens": PLENTY, "tokens_per_fill": PLENTY, "fill_interval": "60s"}
    yield envoy_filter("jwt_authn.v3.JwtAuthentication", providers={"gateway": issuer}, rules=rules)
    yield envoy_filter(
        "local_ratelimit.v3.LocalRateLimit",
        stat_prefix="limit", token_bucket=bucket, filter_enabled=all_requests, filter_enforced=all_requests,
    )  # fmt: skip
    yield envoy_filter("router.v3.Router")


def envoy_filter(kind: str, **settings: Any) -> dict[str, Any]:
    name = kind.partition(".")[0]
    return {"name": f"{HTTP}.{name}", "typed_config": {"@type": f"{TYPES}.http.{kind}", **settings}}


def traefik(stage: Stage, backend: str, path: str) -> Server:
    """Start Traefik with a local limit; it cannot check tokens."""
    port, binary = free_port(), peers_environment() / "traefik"
    routes, configuration = stage.directory / "traefik-routes.yml", stage.directory / "traefik.yml"
    routes.write_text(TRAEFIK_ROUTES.format(plenty=PLENTY, backend=backend))
    configuration.write_text(TRAEFIK.format(port=port, routes=routes))
    return _serve(stage, "traefik", [binary, f"--configFile={configuration}"], _target(port, path))


def haproxy(stage: Stage, backend: str, path: str, token: str) -> Server | None:
    """Start HAProxy with token and a local limit of each user; None if it is not installed."""
    binary = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if binary is None:
        return None
    port, configuration = free_port(), stage.directory / "haproxy.cfg"
    instance = backend.removeprefix("http://")
    configuration.write_text(HAPROXY.format(port=port, secret=SECRET, plenty=PLENTY, backend=instance))
    return _serve(stage, "haproxy", [binary, "-f", configuration], _target(port, path, token))


def _serve(stage: Stage, name: str, command: list[str | Path], target: Target) -> Server:
    env = {"PATH": os.environ.get("PATH", ""), "GOMAXPROCS": "1"}
    process = stage.start(name, command, cores=(SERVER_CORE,), env=env)
    stage.wait(name, process, urljoin(target.url, "/health"))
    return Server(target, process)


def _target(port: int, path: str, token: str | None = None) -> Target:
    return Target(f"http://127.0.0.1:{port}{path}", token)
