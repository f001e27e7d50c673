"""Entity tags of single resources, and the preconditions If-Match and If-None-Match (RFC 9110, section 13.1)."""

import hashlib

from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.kernel.documents import matches_if_none_match
from lucid_gateway.policy.errors import PreconditionFailed

ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201, 202], description="The strong entity tag of the resource"
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="Change the resource only if it has this tag; 412 otherwise"
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="304 without a body if the resource has this tag"
)


def etag(*facts: object) -> str:
    """Return a strong entity tag that changes whenever one of the facts changes."""
    return f'"{hashlib.sha256("|".join(map(str, facts)).encode()).hexdigest()[:32]}"'


def require_match(request: Request, tag: str) -> None:
    """Raise PreconditionFailed if If-Match names other tags than the current one."""
    wanted = request.headers.get("If-Match")
    # A weak tag matches no strong one (RFC 9110, section 8.8.3.2).
    if wanted is not None and parse_etags(wanted) != ["*"] and tag not in parse_etags(wanted):
        raise PreconditionFailed(details={"etag": tag}, headers={"ETag": tag})


def expected_version(request: Request, tag: str, version: int) -> int | None:
    """Return `version` if If-Match allows a change of that version alone, None if it allows any.

    `tag` is the tag of that version. Raises PreconditionFailed if it does not match.
    """
    require_match(request, tag)
    return None if parse_etags(request.headers.get("If-Match", "*")) == ["*"] else version


def client_has(request: Request, tag: str) -> bool:
    """Return whether this is a GET or HEAD by a client that already has the resource with this tag."""
    return request.method in ("GET", "HEAD") and matches_if_none_match(request._request, tag)


def with_etag(request: Request, tag: str, response: Response) -> Response:
    """Return the response with its entity tag, to be revalidated on each use; a GET gets 304 if its client has it.

    A GET whose If-Match names another tag raises PreconditionFailed.
    """
    if request.method in ("GET", "HEAD"):
        require_match(request, tag)
    if client_has(request, tag):
        response = Response(status=304)
    response["ETag"], response["Cache-Control"] = tag, "private, no-cache"
    return response
