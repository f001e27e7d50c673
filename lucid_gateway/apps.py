from django.apps import AppConfig


class LucidGatewayConfig(AppConfig):
    name = "lucid_gateway"
    verbose_name = "Gateway"

    def ready(self) -> None:
        """Register the check of migrations."""
        from lucid_gateway import compatibility  # noqa: F401, PLC0415  # models can be imported now
