"""Conditional requests (RFC 9110, section 13): strong entity tags, If-Match and If-None-Match."""

import hashlib
import json
from typing import Any

from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.errors import PreconditionFailed

ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201], description="The strong tag of what is answered"
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="Change only what still has this tag; 412 otherwise"
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="304 without a body if it still has this tag"
)


def etag_of(*facts: object) -> str:
    """Return the strong tag of an answer that is the same whenever the facts are."""
    text = json.dumps([str(fact) for fact in facts])
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def is_conditional(request: Request) -> bool:
    """Return whether the change is for one state of the resource alone."""
    return request.headers.get("If-Match", "*").strip() != "*"


def require_match(request: Request, etag: str) -> None:
    """Raise PreconditionFailed, with the tag there is, if If-Match asks for another one (strong comparison)."""
    if is_conditional(request) and etag not in parse_etags(request.headers["If-Match"]):
        raise PreconditionFailed(headers={"ETag": etag})


def answer_with(etag: str, data: Any, *, status: int = 200, **headers: str) -> Response:
    """Return the resource with its tag; caches ask each time."""
    return Response(data, status=status, headers={"ETag": etag, "Cache-Control": "private, no-cache"} | headers)


def answer_unless_known(request: Request, etag: str, data: Any) -> Response:
    """Return the resource, or 304 if If-None-Match says that the caller has it (weak comparison)."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    if "*" in known or etag in (tag.removeprefix("W/") for tag in known):
        return answer_with(etag, None, status=304)
    return answer_with(etag, data)
