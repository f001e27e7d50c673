"""Functions with which endpoints read a request: its validated data and its caller."""

import uuid
from typing import Any

from rest_framework.request import Request

from lucid_gateway.api.json_types import IN_A_BODY, IN_A_QUERY, Rules, typed
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.kernel.record import caller_of
from lucid_gateway.policy.errors import NotAUUID


def parse(shape: type[Any], request: Request, *, partial: bool = False, **context: Any) -> dict[str, Any]:
    """Return the validated body; with `partial`, fields may be missing. Raises DRF's ValidationError."""
    return valid(shape(data=request.data, partial=partial, context=context), IN_A_BODY)


def parse_query(shape: type[Any], request: Request) -> dict[str, Any]:
    """Return the validated query; raise DRF's ValidationError."""
    return valid(shape(data=request.query_params), IN_A_QUERY)


def valid(serializer: Any, types: Rules | None = None) -> dict[str, Any]:
    """Return the serializer's validated data; raise DRF's ValidationError, also for a type that `types` forbids."""
    if types is not None:
        serializer.initial_data = typed(serializer, serializer.initial_data, types)
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


def uuid_of(text: str) -> uuid.UUID:
    """Return the UUID in a path segment; raise NotAUUID."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise NotAUUID() from error


def caller(request: Request) -> Caller:
    return caller_of(request._request)
