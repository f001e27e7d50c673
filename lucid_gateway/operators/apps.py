from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    name = "lucid_gateway.operators"
