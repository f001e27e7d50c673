"""How the edge reaches Redis: what REDIS_URL says, as the gateway understands it."""

import ssl
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from lucid_gateway.kernel.env import ConfigurationError
from lucid_gateway.kernel.redis_urls import is_cluster, urls_of_nodes

# Options of redis-py in the query of the URL that the edge knows, too. The files are PEM.
AUTHORITIES, CERTIFICATE, KEY = "ssl_ca_certs", "ssl_certfile", "ssl_keyfile"
OPTIONS = frozenset({"db", AUTHORITIES, CERTIFICATE, KEY})
WITH_TLS = ("rediss://", "rediss+cluster://")
SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
NAME_SERVERS = Path("/etc/resolv.conf")


def redis_settings(url: str) -> dict[str, Any]:
    """Return where Redis is and how to log in; raise ConfigurationError for what the edge does not support."""
    if is_cluster(url):
        nodes = [redis_settings(node) for node in urls_of_nodes(url)]
        return nodes[0] | {"nodes": [{"host": node["host"], "port": node["port"]} for node in nodes]}
    if url.startswith("sentinel://"):
        return sentinel_settings(url)
    parts = urlsplit(url)
    options = options_of(parts)
    on_socket, is_tls = parts.scheme == "unix", parts.scheme == "rediss"
    host = parts.hostname or "localhost"
    if is_tls and is_address(host):
        raise ConfigurationError("REDIS_URL: names an address; with TLS, the edge expects the name in the certificate")
    database = options.get("db") or ("" if on_socket else parts.path.strip("/"))
    return {
        "host": host, "port": parts.port or 6379, "socket": parts.path if on_socket else "",
        "database": int(database or 0), "username": unquote(parts.username or ""),
        "password": unquote(parts.password or ""), "sentinels": [], "group": "", "nodes": [],
        "tls": is_tls,
        "certificate": contents(options.get(CERTIFICATE)), "key": contents(options.get(KEY)),
    }  # fmt: skip


def sentinel_settings(url: str) -> dict[str, Any]:
    """Return the same for a Sentinel group, which `lucid_gateway.kernel.env` has validated."""
    hosts, _, rest = url.removeprefix("sentinel://").partition("/")
    credentials, _, hosts = hosts.rpartition("@")
    group, _, database = rest.partition("/")
    sentinels = [address.rpartition(":") for address in hosts.split(",")]
    return {
        "host": "", "port": 0, "socket": "", "database": int(database or 0), "username": "",
        "password": credentials.rpartition(":")[2], "group": group, "tls": False, "certificate": "", "key": "",
        "nodes": [],
        "sentinels": [{"host": host.strip("[]"), "port": int(port)} for host, _, port in sentinels],
    }  # fmt: skip


def options_of(parts: SplitResult) -> dict[str, str]:
    """Return the options in the query; raise ConfigurationError for one that would change what the edge does."""
    options = dict(parse_qsl(parts.query))
    if unknown := sorted(options.keys() - OPTIONS):
        expected = ", ".join(sorted(OPTIONS))
        raise ConfigurationError(f"REDIS_URL: has the option {unknown[0]}; the edge expects only {expected}")
    return options


def is_address(host: str) -> bool:
    return ":" in host or host.replace(".", "").isdigit()


def contents(path: str | None) -> str:
    """Return the text of a file, which the workers of nginx might not be able to read."""
    return read(Path(path)) if path else ""


def read(path: Path) -> str:
    """Return the text of the file; raise ConfigurationError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"edge: cannot read {path} ({type(error).__name__})") from error


def authorities(redis_url: str = "") -> str:
    """Return the certificates of the authorities that may vouch for Redis, if its URL names a file, or for any server:
    those that Python's `ssl` trusts, as the gateway does.
    """
    named = options_of(urlsplit(redis_url)).get(AUTHORITIES) if redis_url.startswith(WITH_TLS) else None
    return read(Path(named or ssl.get_default_verify_paths().cafile or SYSTEM_AUTHORITIES))


def name_servers() -> str:
    """Return this host's name servers as nginx expects them; empty if there are none."""
    try:
        found = [line.split()[1] for line in NAME_SERVERS.read_text().splitlines() if line.startswith("nameserver ")]
    except OSError:
        return ""
    return " ".join(f"[{address}]" if ":" in address else address for address in found)
