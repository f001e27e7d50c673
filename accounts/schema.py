"""How the OpenAPI document describes the gateway's authentication."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension

from lucid_gateway.api.permissions import SignedIn


class CallerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """Found by drf-spectacular through its class registry."""

    target_class = "accounts.authentication.CallerAuthentication"
    name = ["bearer", "api_key"]

    def get_security_requirement(self, auto_schema: Any) -> list[dict[str, list[Any]]]:
        """Return either of the two, or the token alone where no API key is let in."""
        signed_in = any(isinstance(permission, SignedIn) for permission in auto_schema.view.get_permissions())
        return [{"bearer": []}] if signed_in else [{"bearer": []}, {"api_key": []}]

    def get_security_definition(self, auto_schema: Any) -> list[dict[str, str]]:
        """Return the security schemes."""
        return [
            {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        ]
