from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Register what Django and drf-spectacular find by import."""
        from accounts import audit_names, schema  # noqa: F401, PLC0415  # the registry needs loaded apps

        audit_names.register()
