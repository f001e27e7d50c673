"""The security schemes of the OpenAPI document."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from lucid_gateway.api.permissions import SignedIn


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Describes CallerAuthentication. drf-spectacular finds this class through its registry."""

    target_class = "accounts.authentication.CallerAuthentication"
    name = ["bearer", "api_key"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Return token or API key, or only the token for views that refuse API keys."""
        signed_in = any(isinstance(permission, SignedIn) for permission in auto_schema.view.get_permissions())
        return [{"bearer": []}] if signed_in else [{"bearer": []}, {"api_key": []}]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        return [
            {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]
