from django.apps import AppConfig


class FiguresConfig(AppConfig):
    name = "lucid_gateway.figures"
