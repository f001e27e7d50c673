"""The backend clusters: one row per cluster."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster: its name in routes and logs, its service name, and the setting that lists its instances' addresses.

    The gateway does not start in production without an address for each `required` cluster. It offers the routes of
    another cluster only if that cluster has an address.
    """

    name: str
    service: str
    setting: str
    required: bool
    health_path: str = "/health"


CLUSTERS = {
    row.name: row
    for row in (
        ClusterRow("blockchain_core", "lucid-blocks", "BLOCKCHAIN_CORE_URL", required=True),
        ClusterRow("session_management", "session-management", "SESSION_MANAGEMENT_URL", required=True),
        ClusterRow("auth_service", "auth-service", "AUTH_SERVICE_URL", required=True),
        ClusterRow("tron_payment", "tron-payment-service", "TRON_PAYMENT_URL", required=True),
        ClusterRow("rdp_services", "rdp-services", "RDP_SERVICES_URL", required=False),
        ClusterRow("node_management", "node-management", "NODE_MANAGEMENT_URL", required=False),
        ClusterRow("admin_interface", "admin-interface", "ADMIN_INTERFACE_URL", required=False),
        ClusterRow("storage_database", "storage-database", "STORAGE_DATABASE_URL", required=False),
    )
}
