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


def etag_of(data: Any) -> str:
    """Return the strong tag of what is answered: the same for the same JSON, and for nothing else."""
    text = json.dumps(data, default=str, sort_keys=True)
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'


def is_conditional(request: Request) -> bool:
    """Return whether the change is for one state of the resource alone."""
    return request.headers.get("If-Match", "*").strip() != "*"


def require_match(request: Request, etag: str) -> None:
    """Raise PreconditionFailed, with the tag there is, if If-Match asks for another one (strong comparison)."""
    if is_conditional(request) and etag not in parse_etags(request.headers["If-Match"]):
        raise PreconditionFailed(headers={"ETag": etag})


def answer_with(data: Any, *, status: int = 200, **headers: str) -> Response:
    """Return the resource with its tag; caches ask each time."""
    fields = {"ETag": etag_of(data), "Cache-Control": "private, no-cache"} | headers
    return Response(None if status == 304 else data, status=status, headers=fields)


def answer_unless_known(request: Request, data: Any) -> Response:
    """Return the resource, or 304 if If-None-Match says that the caller has it (weak comparison)."""
    known = parse_etags(request.headers.get("If-None-Match", ""))
    unchanged = "*" in known or etag_of(data) in (tag.removeprefix("W/") for tag in known)
    return answer_with(data, status=304 if unchanged else 200)
