from django.apps import AppConfig


class LucidGatewayConfig(AppConfig):
    name = "lucid_gateway"
    verbose_name = "Gateway"
