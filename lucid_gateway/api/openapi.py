"""The parts of the OpenAPI document that all endpoints share: the error envelope and the types of path parameters."""

from typing import Any

from drf_spectacular.openapi import AutoSchema

WRONG_FIELDS = [
    {"field": "name", "message": "Ensure this field has no more than 255 characters.", "code": "max_length"},
    {"field": "max_size_bytes", "message": "A valid integer is required.", "code": "invalid"},
]
ERROR_EXAMPLE = {
    "error": {
        "code": "LUCID_ERR_1001",
        "message": "Invalid request data",
        "details": {"validation_errors": WRONG_FIELDS},
        "request_id": "0f1d3c5e-6f0b-4c1e-8f43-7a2b9c0d1e2f",
        "timestamp": "2026-11-25T08:00:00.000Z",
        "service": "api-gateway",
        "version": "v1",
    }
}
ERROR_SCHEMA = {
    "type": "object",
    "description": "The envelope of all errors of the gateway.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id", "timestamp", "service", "version"],
            "properties": {
                "code": {"type": "string", "pattern": "^LUCID_ERR_[0-9]{4}$", "example": "LUCID_ERR_1001"},
                "message": {"type": "string"},
                "details": {"type": "object", "additionalProperties": True},
                "request_id": {"type": "string"},
                "timestamp": {"type": "string", "format": "date-time"},
                "service": {"type": "string"},
                "version": {"type": "string"},
            },
        }
    },
    "example": ERROR_EXAMPLE,
}
ERROR_ANSWER = {
    "description": "An error, identified by the code in the envelope.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


UUID = {"type": "string", "format": "uuid"}
# The types of path parameters; all other parameters are texts.
PATH_PARAMETERS: dict[str, dict[str, Any]] = {
    "user_id": UUID, "session_id": UUID, "chunk_id": UUID, "manifest_id": UUID, "policy_id": UUID,
    "index": {"type": "integer", "minimum": 0},
}  # fmt: skip


class GatewaySchema(AutoSchema):
    """drf-spectacular's schema, plus: the first line of a method's docstring as its summary, the types of path
    parameters, and a body for each DELETE whose view names one with `extend_schema(request=...)`.
    """

    def get_summary(self) -> str | None:
        lines = (self.get_description() or "").strip().splitlines()
        return lines[0] if lines else None

    def get_request_serializer(self) -> Any:
        """Return the serializer of the body; none for DELETE, unless `extend_schema` overrides this method."""
        return None if self.method == "DELETE" else super().get_request_serializer()

    def _get_request_body(self, direction: Any = "request") -> Any:
        """Return the description of the body. drf-spectacular gives none for DELETE, so this pretends it is a POST."""
        if self.method != "DELETE" or self.get_request_serializer() is None:
            return super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        self.method = "POST"
        try:
            return super()._get_request_body(direction)  # type: ignore[no-untyped-call]
        finally:
            self.method = "DELETE"

    def _resolve_path_parameters(self, variables: list[str]) -> list[Any]:
        found: list[Any] = super()._resolve_path_parameters(variables)  # type: ignore[no-untyped-call]
        return [p | {"schema": PATH_PARAMETERS.get(p["name"], p["schema"])} for p in found]


def describe_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Add the error answer to every operation (a postprocessing hook of drf-spectacular)."""
    result["components"].setdefault("schemas", {})["Error"] = ERROR_SCHEMA
    for operations in result["paths"].values():
        for operation in operations.values():
            if isinstance(operation, dict) and "responses" in operation:
                operation["responses"].setdefault("default", ERROR_ANSWER)
    return result
