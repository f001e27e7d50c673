"""The files of the edge: the configuration of nginx, its Lua, the policy, the decision script, and the secrets."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from string import Template
from typing import Any

from django.conf import settings

from lucid_gateway.kernel.env import BASE_DIR, ConfigurationError
from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.document import policy_document
from lucid_gateway.policy.headers import VIA
from proxy.edge.redis_settings import WITH_TLS, authorities, name_servers, redis_settings
from proxy.edge.snapshot import security_fields
from ratelimit.engine import limiter

# Mozilla's "intermediate" set, as in deploy/nginx.
CIPHERS = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
SOURCE = BASE_DIR / "deploy" / "edge"
CACHE = "lucid_cache"


@dataclass(frozen=True)
class EdgeOptions:
    """How this edge runs: where it listens, with how many workers, how much it remembers, and where it logs.

    `modules` are those that nginx has to load. Without any, nginx has Lua built in, as OpenResty has. `resolver` are
    the name servers that it asks for the address of Redis. `cache_size` is that of the response cache on disk, 0 for
    none.
    """

    http_listen: str
    https_listen: str = ""
    workers: str = "auto"
    modules: tuple[str, ...] = ()
    callers_size: str = "64m"
    cache_size: str = "0"
    access_log: str = "/dev/stdout"
    access_log_buffer: str = "64k"
    error_log_level: str = "crit"
    resolver: str = ""


def write_configuration(folder: Path, options: EdgeOptions) -> None:
    """Write everything that the edge needs into the folder; raise ConfigurationError if a setting is missing."""
    env = settings.ENV
    for name in ("EDGE_SECRET", "GATEWAY_SOCKET"):
        if not getattr(env, name):
            raise ConfigurationError(f"{name}: is missing; expected a value for the edge")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(SOURCE / "lua", folder / "lua", dirs_exist_ok=True)
    (folder / "admit.lua").write_text(limiter.script.source)
    (folder / "policy.json").write_text(json.dumps(policy_document()))
    write_secret(folder / "edge.json", json.dumps(edge_settings(options)))
    (folder / "authorities.pem").write_text(authorities())
    if env.REDIS_URL.startswith(WITH_TLS):
        (folder / "redis-authorities.pem").write_text(authorities(env.REDIS_URL))
    filled_in = values(folder, options)
    for template in SOURCE.glob("*.conf.template"):
        text = Template(template.read_text(encoding="utf-8")).safe_substitute(filled_in)
        (folder / template.stem).write_text(text)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def edge_settings(options: EdgeOptions) -> dict[str, Any]:
    """Return what the Lua reads: Redis, the secrets, and names."""
    env = settings.ENV
    return {
        "redis": redis_settings(env.REDIS_URL) | {"timeout_ms": int(env.REDIS_TIMEOUT_SECONDS * 1000)},
        "edge_secret": env.EDGE_SECRET,
        "gateway_socket": str(Path(env.GATEWAY_SOCKET).absolute()),
        "identity_signing_secret": env.IDENTITY_SIGNING_SECRET,
        "service_name": env.SERVICE_NAME,
        "api_version": env.API_VERSION,
        "checked_module": bool(options.modules),
        "tunnel_max_seconds": env.EDGE_TUNNEL_MAX_SECONDS,
        "has_cache": options.cache_size != "0",
        "has_proxies": bool(env.TRUSTED_PROXIES),
        "security_fields": {"http": security_fields(secure=False), "https": security_fields(secure=True)},
        "cors_origins": list(env.CORS_ORIGINS),
        "cors_exposed": ", ".join(settings.CORS_EXPOSE_HEADERS).lower(),
    }


def values(folder: Path, options: EdgeOptions) -> Mapping[str, str]:
    """Return the values of the template."""
    env = settings.ENV
    networks = [str(ip_network(network)) for network in env.TRUSTED_PROXIES]
    return {
        "MODULES": lines(f"load_module {path};" for path in options.modules),
        "WORKERS": options.workers,
        "ERROR_LOG_LEVEL": options.error_log_level,
        "FOLDER": str(folder.absolute()),
        "CALLERS_SIZE": options.callers_size,
        "CACHE_MEMORY": lines(cache_memory(folder, options), indent=4),
        "CACHE": CACHE if options.cache_size != "0" else "off",
        "PROXY_NETWORKS": lines((f"{network} proxy;" for network in networks), indent=8),
        "REAL_IP": lines(real_ip(networks), indent=4),
        "CONNECTION_LIMIT": lines(connection_limit(), indent=4),
        "ACCESS_LOG": options.access_log,
        "ACCESS_LOG_BUFFER": options.access_log_buffer and f" buffer={options.access_log_buffer} flush=1s",
        "CLIENT_TIMEOUT": str(env.CLIENT_TIMEOUT_SECONDS),
        "GATEWAY_SOCKET": str(Path(env.GATEWAY_SOCKET).absolute()),
        "LISTEN": lines(listen(options), indent=8),
        "TLS_CLUSTERS": lines(tls_clusters(), indent=4),
        "REDIS": lines(redis_directives(folder, options), indent=4),
        "VIA": VIA,
    }


def lines(parts: Iterable[str], indent: int = 0) -> str:
    """Return the parts as lines of the configuration."""
    return "\n".join(" " * indent + part for part in parts)


def cache_memory(folder: Path, options: EdgeOptions) -> list[str]:
    """Return the directives for the response cache, if there is one: its folder, and the memory of its index."""
    if options.cache_size == "0":
        return []
    path = folder.absolute() / "cache"
    return [
        "lua_shared_dict lucid_answers 16m;",
        f"proxy_cache_path {path} levels=1:2 keys_zone={CACHE}:4m max_size={options.cache_size} inactive=1h"
        " use_temp_path=off;",
    ]


def real_ip(networks: Iterable[str]) -> list[str]:
    """Return the directives that take the client's address from trusted proxies, as `ratelimit.client_address` does."""
    trusted = [f"set_real_ip_from {network};" for network in networks]
    return [*trusted, "real_ip_header X-Forwarded-For;", "real_ip_recursive on;"] if trusted else []


def connection_limit() -> list[str]:
    """Return the directives for MAX_CONNECTIONS_PER_ADDRESS. 444 closes the connection without an answer."""
    limit = settings.ENV.MAX_CONNECTIONS_PER_ADDRESS
    zone = "limit_conn_zone $lucid_crowd zone=lucid_crowd:10m;"
    return [zone, f"limit_conn lucid_crowd {limit};", "limit_conn_status 444;"] if limit else []


def tls_clusters() -> list[str]:
    """Return an upstream for each cluster, as that of all clusters without TLS is."""
    return [
        line
        for name in CLUSTERS
        for line in (
            f"upstream lucid_tls_{name} {{", "    server 0.0.0.1; # never used",
            '    balancer_by_lua_block { require("lucid.forwarding").balance() }',
            "    keepalive 32;", "    keepalive_requests 100000;", "    keepalive_timeout 1s;", "}",
        )
    ]  # fmt: skip


def redis_directives(folder: Path, options: EdgeOptions) -> list[str]:
    """Return the directives for finding Redis by its name, and for trusting its certificate."""
    servers = options.resolver or name_servers()
    found = [f"resolver {servers};"] if servers else []
    if settings.ENV.REDIS_URL.startswith(WITH_TLS):
        found += [
            f"lua_ssl_trusted_certificate {folder.absolute()}/redis-authorities.pem;", "lua_ssl_verify_depth 10;",
            "lua_ssl_protocols TLSv1.2 TLSv1.3;",
        ]  # fmt: skip
    return found


def listen(options: EdgeOptions) -> list[str]:
    """Return the directives for the ports."""
    found = [f"listen {options.http_listen} backlog=4096;"]
    if options.https_listen:
        env = settings.ENV
        found += [
            f"listen {options.https_listen} ssl http2 backlog=4096;", f"ssl_certificate {env.SSL_CERT_PATH};",
            f"ssl_certificate_key {env.SSL_KEY_PATH};", "ssl_protocols TLSv1.2 TLSv1.3;",
            f"ssl_ciphers {CIPHERS};", "ssl_prefer_server_ciphers off;",
            "ssl_session_cache shared:tls:10m;", "ssl_session_timeout 1d;", "ssl_session_tickets off;",
        ]  # fmt: skip
    return found
