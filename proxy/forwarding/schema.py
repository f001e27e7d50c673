"""How the OpenAPI document describes forwarded routes: from the rows of the route table."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiResponse

from accounts.views.idempotent import IDEMPOTENCY_KEY
from lucid_gateway.api.openapi import GatewaySchema
from lucid_gateway.policy.routes import Route

KEY_ANSWERS = {
    409: "The first request with this Idempotency-Key is under way (`Retry-After`), or has no answer to give again: "
    "`details.outcome` is `under_way`, `unknown` or `not_stored`. Or the cluster's own answer.",
    422: "The Idempotency-Key is malformed, or was used for another request. Or the cluster's own answer.",
}


def description_of(row: Route) -> str:
    """Return what the row says, in words."""
    return (
        f"Forwarded to {row.cluster} as {row.upstream}.\n\n"
        f"Needs the permission {row.permission}; counted in the tier {row.tier}; bodies up to {row.body_limit} bytes."
    )


class ForwardSchema(GatewaySchema):
    """Describes an operation by its row; bodies are the cluster's business."""

    @property
    def route(self) -> Route:
        """Return the row of the operation's method."""
        row: Route = self.view.routes[self.method]  # type: ignore[attr-defined]  # a ForwardView
        return row

    def get_operation_id(self) -> str:
        """Return an id that is unique among the forwarded routes."""
        path = self.route.path.replace("{rest*}", "below").replace("{session_id}/", "")
        words = path.replace("/", "_").replace("-", "_")
        return f"{words}_{self.method.lower()}"

    def get_description(self) -> str:  # type: ignore[override]  # drf-spectacular's own signature
        """Return what the row says."""
        return description_of(self.route)

    def get_tags(self) -> list[str]:
        """Return the first part of the path."""
        return [self.route.path.partition("/")[0]]

    def get_request_serializer(self) -> Any:
        """Return any JSON for methods that carry a body."""
        return OpenApiTypes.OBJECT if self.method in ("POST", "PUT", "PATCH") else None

    def get_override_parameters(self) -> Any:
        """Return the header field of rows that honour it."""
        return [IDEMPOTENCY_KEY] if self.route.idempotency_key else []

    def get_response_serializers(self) -> Any:
        """Return any answer: the cluster's own pass unchanged, errors too."""
        error = OpenApiResponse(OpenApiTypes.OBJECT, "The gateway's error envelope, or the cluster's own answer.")
        answers = KEY_ANSWERS if self.route.idempotency_key else {}
        described = {status: OpenApiResponse(OpenApiTypes.OBJECT, text) for status, text in answers.items()}
        return {"2XX": OpenApiResponse(OpenApiTypes.OBJECT, "The cluster's answer."), **described, "default": error}
