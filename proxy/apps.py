from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = "Clusters"

    def ready(self) -> None:
        """Register the system checks."""
        from proxy import checks  # noqa: F401, PLC0415  # the settings are ready by now, and were not before
