"""The configured backend clusters and the addresses of their instances."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from django.conf import settings

from lucid_gateway.policy.clusters import CLUSTERS
from lucid_gateway.policy.errors import ServiceUnavailable


@dataclass(frozen=True, slots=True)
class Instance:
    """One server of a cluster."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as operators write it."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """The value of the Host field (RFC 9110, section 7.2): without the port if it is the scheme's default."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A configured cluster: its row in the policy's table, and its instances."""

    name: str
    service: str
    health_path: str = "/health"
    instances: tuple[Instance, ...] = ()


def instance(url: str) -> Instance:
    """Parse an instance's address; `lucid_gateway.kernel.env` has validated it."""
    parts = urlsplit(url)
    return Instance(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def find_instance(cluster: Cluster, url: str) -> Instance | None:
    """Return the cluster's instance with this address in any spelling, or None."""
    try:
        wanted = instance(url.strip())
    except ValueError:
        return None
    return next((found for found in cluster.instances if found == wanted), None)


@cache
def configured() -> Mapping[str, Cluster]:
    """Return the clusters that have at least one address, by name."""
    rows = [(row, getattr(settings.ENV, row.setting)) for row in CLUSTERS.values()]
    return {
        row.name: Cluster(row.name, row.service, row.health_path, tuple(instance(url) for url in urls))
        for row, urls in rows
        if urls
    }


def cluster_named(name: str) -> Cluster:
    """Return the configured cluster with this name; raise ServiceUnavailable if it has no address."""
    cluster = configured().get(name)
    if cluster is None:
        raise ServiceUnavailable(
            "Cluster is not configured", details={"cluster": name}, reason="cluster_not_configured"
        )
    return cluster
