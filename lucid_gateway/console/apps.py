from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    name = "lucid_gateway.console"
    verbose_name = "Console"
