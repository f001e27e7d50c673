"""The backend clusters: which there are, and where their instances listen."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from urllib.parse import urlsplit

from django.conf import settings

from lucid_gateway.policy.errors import ServiceUnavailable


@dataclass(frozen=True, slots=True)
class Instance:
    """One server of a cluster."""

    scheme: str
    host: str
    port: int

    @property
    def url(self) -> str:
        """Return its address, as operators write it."""
        return f"{self.scheme}://{self.authority}"

    @property
    def authority(self) -> str:
        """Return the Host field for it (RFC 9110, section 7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return host if self.port == default else f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster: its name in routes and logs, its service name, the setting that holds its addresses."""

    name: str
    service: str
    setting: str
    health_path: str = "/health"
    instances: tuple[Instance, ...] = ()


CLUSTERS = (
    Cluster("blockchain_core", "lucid-blocks", "BLOCKCHAIN_CORE_URL"),
    Cluster("session_management", "session-management", "SESSION_MANAGEMENT_URL"),
    Cluster("auth_service", "auth-service", "AUTH_SERVICE_URL"),
    Cluster("tron_payment", "tron-payment-service", "TRON_PAYMENT_URL"),
    Cluster("rdp_services", "rdp-services", "RDP_SERVICES_URL"),
    Cluster("node_management", "node-management", "NODE_MANAGEMENT_URL"),
    Cluster("admin_interface", "admin-interface", "ADMIN_INTERFACE_URL"),
    Cluster("storage_database", "storage-database", "STORAGE_DATABASE_URL"),
)


def instance(url: str) -> Instance:
    """Return the instance of an address that `lucid_gateway.kernel.env` has checked."""
    parts = urlsplit(url)
    return Instance(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def same_instance(cluster: Cluster, url: str) -> Instance | None:
    """Return the cluster's instance of that address, however it is written; None if it has none."""
    try:
        wanted = instance(url.strip())
    except ValueError:
        return None
    return next((found for found in cluster.instances if found == wanted), None)


@cache
def configured() -> Mapping[str, Cluster]:
    """Return the clusters that have an address, by name."""
    found = {}
    for cluster in CLUSTERS:
        if urls := getattr(settings.ENV, cluster.setting):
            instances = tuple(instance(url) for url in urls)
            found[cluster.name] = Cluster(
                cluster.name, cluster.service, cluster.setting, cluster.health_path, instances
            )
    return found


def cluster_named(name: str) -> Cluster:
    """Return the configured cluster of that name; raise ServiceUnavailable if it has no address."""
    cluster = configured().get(name)
    if cluster is None:
        raise ServiceUnavailable("Cluster is not configured", details={"cluster": name})
    return cluster
