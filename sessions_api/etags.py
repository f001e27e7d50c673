"""Entity tags of single resources, and what If-Match and If-None-Match do with them (RFC 9110, section 13.1)."""

import hashlib

from django.utils.http import parse_etags
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.kernel.documents import has_tag
from lucid_gateway.policy.errors import PreconditionFailed

ETAG = OpenApiParameter(
    "ETag", str, OpenApiParameter.HEADER, response=[200, 201, 202], description="The strong tag of what is answered"
)
IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="Change only what still has this tag; 412 otherwise"
)
IF_NONE_MATCH = OpenApiParameter(
    "If-None-Match", str, OpenApiParameter.HEADER, description="304 without a body if it still has this tag"
)


def etag(*facts: object) -> str:
    """Return the strong tag of a resource that changes with these facts."""
    return f'"{hashlib.sha256("|".join(map(str, facts)).encode()).hexdigest()[:32]}"'


def refuse_unless_current(request: Request, tag: str) -> None:
    """Raise PreconditionFailed if the request is meant for another state of the resource."""
    wanted = request.headers.get("If-Match")
    # A weak tag matches no strong one (RFC 9110, section 8.8.3.2).
    if wanted is not None and parse_etags(wanted) != ["*"] and tag not in parse_etags(wanted):
        raise PreconditionFailed(details={"etag": tag}, headers={"ETag": tag})


def version_to_find(request: Request, tag: str, version: int) -> int | None:
    """Return the version, of which the tag is, if it alone may be changed, None for any; raise PreconditionFailed."""
    refuse_unless_current(request, tag)
    return None if parse_etags(request.headers.get("If-Match", "*")) == ["*"] else version


def is_known(request: Request, tag: str) -> bool:
    """Return whether this is a GET of a client that has this state already."""
    return request.method in ("GET", "HEAD") and has_tag(request._request, tag)


def tagged(request: Request, tag: str, response: Response) -> Response:
    """Return the response with the tag; caches ask each time. A GET is 304 if its client has this state already, and
    raises PreconditionFailed if it is meant for another.
    """
    if request.method in ("GET", "HEAD"):
        refuse_unless_current(request, tag)
    if is_known(request, tag):
        response = Response(status=304)
    response["ETag"], response["Cache-Control"] = tag, "private, no-cache"
    return response
