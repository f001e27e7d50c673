from django.apps import AppConfig


class SessionsConfig(AppConfig):
    name = "sessions_api"
    verbose_name = "Sessions"

    def ready(self) -> None:
        """Let the audit log show names of sessions and policies."""
        from sessions_api import audit_names  # noqa: PLC0415  # models load only now

        audit_names.register()
