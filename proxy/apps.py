from django.apps import AppConfig


class ProxyConfig(AppConfig):
    name = "proxy"
    verbose_name = "Clusters"

    def ready(self) -> None:
        """Register the system checks; their module needs the settings, so it cannot be imported earlier."""
        from proxy import checks  # noqa: F401, PLC0415
