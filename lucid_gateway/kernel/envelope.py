"""The JSON envelope of every error (contract). It does not import Django, so that the server can use it, too."""

import json
from datetime import UTC, datetime
from typing import Any

from lucid_gateway.kernel.env import environment
from lucid_gateway.policy.errors import GatewayError


def error_body(error: GatewayError, request_id: str, **more: str) -> bytes:
    """Return the envelope as the body of an answer, with a newline at its end for terminals; `more` adds details."""
    return json.dumps(envelope(error, request_id, **more), separators=(",", ":")).encode() + b"\n"


def envelope(error: GatewayError, request_id: str, **more: str) -> dict[str, Any]:
    """Return the envelope as JSON data, in the API's form."""
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "details": {**error.details, **more},
            "request_id": request_id,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "service": environment().SERVICE_NAME,
            "version": environment().API_VERSION,
        }
    }
