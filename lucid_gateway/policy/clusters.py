"""The backend clusters: one row each. The setting holds the addresses of a cluster's instances."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ClusterRow:
    """A cluster: its name in routes and logs, its service name, and the setting with its instances' addresses.

    Production does not start without the address of a `required` cluster. The routes of the others appear when the
    cluster has an address.
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
