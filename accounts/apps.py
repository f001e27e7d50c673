from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = "Accounts"

    def ready(self) -> None:
        """Let the audit log show names of accounts."""
        from accounts import audit_names  # noqa: PLC0415  # models load only now

        audit_names.register()
