from django.apps import AppConfig


class SnapshotsConfig(AppConfig):
    name = "lucid_gateway.kernel.snapshots"
