"""Django's admin app, with the gateway's own site."""

from django.contrib.admin.apps import AdminConfig


class GatewayAdminConfig(AdminConfig):
    default_site = "lucid_gateway.console.site.GatewayAdminSite"
