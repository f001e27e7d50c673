"""Describes forwarded routes in the OpenAPI document, from the route table."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from accounts.views.idempotent import IDEMPOTENCY_KEY
from lucid_gateway.api.openapi import GatewaySchema
from lucid_gateway.policy.routes import Route

KEY_ANSWERS = {
    409: "The first request with this Idempotency-Key is in progress (`Retry-After`), or its answer cannot be "
    "repeated: `details.outcome` is `under_way`, `unknown` or `not_stored`. Or the cluster's own answer.",
    422: "The Idempotency-Key is malformed, or was used for another request. Or the cluster's own answer.",
}


WEBSOCKET = (
    "\n\nBehind the edge a WebSocket handshake (RFC 6455) opens a tunnel to the cluster. A browser gives a ticket in "
    "the query parameter `ticket` (`POST /rdp/tickets`)."
)


def description_of(row: Route) -> str:
    return (
        f"Forwarded to {row.cluster} as {row.upstream}.\n\n"
        f"Requires the permission {row.permission}; counts in the tier {row.tier}; bodies up to {row.body_limit} bytes."
    )


class ForwardSchema(GatewaySchema):
    """Describes an operation by its route; the clusters define the bodies."""

    @property
    def route(self) -> Route:
        row: Route = self.view.routes[self.method]  # type: ignore[attr-defined]  # a ForwardView
        return row

    def get_operation_id(self) -> str:
        """Return an id that is unique among the forwarded routes, such as `wallets_balance_get`."""
        path = self.route.path.replace("{rest*}", "below").replace("{session_id}/", "")
        words = path.replace("/", "_").replace("-", "_")
        return f"{words}_{self.method.lower()}"

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's own signature
        described = description_of(self.route)
        return described + WEBSOCKET if self.route.websocket and self.method == "GET" else described

    def get_tags(self) -> list[str]:
        """Return the first segment of the path."""
        return [self.route.path.partition("/")[0]]

    def get_request_serializer(self) -> Any:
        """Return any JSON for methods with a body."""
        return OpenApiTypes.OBJECT if self.method in ("POST", "PUT", "PATCH") else None

    def get_override_parameters(self) -> Any:
        """Return the Idempotency-Key field for routes that support it."""
        return [IDEMPOTENCY_KEY] if self.route.idempotency_key else []

    def get_response_serializers(self) -> Any:
        """Describe any answer: a cluster's answers, errors included, pass unchanged."""
        error = OpenApiResponse(OpenApiTypes.OBJECT, "The gateway's error envelope, or the cluster's own answer.")
        answers = KEY_ANSWERS if self.route.idempotency_key else {}
        described = {status: OpenApiResponse(OpenApiTypes.OBJECT, text) for status, text in answers.items()}
        return {"2XX": OpenApiResponse(OpenApiTypes.OBJECT, "The cluster's answer."), **described, "default": error}
