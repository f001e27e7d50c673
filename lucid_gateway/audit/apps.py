from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "lucid_gateway.audit"
    verbose_name = "Audit log"
