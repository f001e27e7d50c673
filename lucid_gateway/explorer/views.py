"""The API for kept requests."""

import dataclasses
from collections.abc import Callable
from typing import Any

from django.conf import settings
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from lucid_gateway.api.requests import caller, parse_query
from lucid_gateway.explorer import serializers as shapes
from lucid_gateway.explorer.conditions import Equal, NotEmpty, OneOf
from lucid_gateway.explorer.models import KeptRequest
from lucid_gateway.explorer.searching import find
from lucid_gateway.explorer.shapes import explained, for_caller, for_staff
from lucid_gateway.policy.errors import NotFound
from ratelimit.endpoints import AdminView, CallerView

REFUSED = (NotEmpty("reason"), OneOf("credential_kind", frozenset({"token", "api_key", "session"})))


def page_of(query: dict[str, Any], show: Callable[[KeptRequest], dict[str, Any]]) -> dict[str, Any]:
    """Return the page that the query asks for, as JSON."""
    search = query["search"]
    found = find(search)
    pagination = {
        "page": query["page"], "limit": search.limit, "total": found.total, "pages": -(-found.total // search.limit),
        "more": found.is_partial, "next": found.next_before,
    }  # fmt: skip
    return {"requests": [show(row) for row in found.rows], "pagination": pagination}


class RequestsView(AdminView):
    """The kept requests."""

    permissions = {"GET": "admin:read"}

    @extend_schema(
        operation_id="admin_requests_list", parameters=[shapes.RequestsQuery], responses=shapes.RequestsSerializer,
        tags=["admin"],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List kept requests, newest first: refused and failed ones of the last 24 hours, and a sample of the others.

        A search with several filters examines the newest 10,000 rows; `pagination.next` continues with older ones.
        """
        answer = page_of(parse_query(shapes.RequestsQuery, request), for_staff)
        return Response(shapes.RequestsSerializer(answer).data)


class RequestView(AdminView):
    """A kept request."""

    permissions = {"GET": "admin:read"}

    @extend_schema(responses=shapes.ExplainedRequestSerializer, tags=["admin"])
    def get(self, request: Request, request_id: str) -> Response:
        """Explain a kept request as its page in the console does; of several with this id, the latest."""
        row = KeptRequest.objects.filter(request_id=request_id).order_by("-pk").first()
        if row is None:
            raise NotFound("This request is not kept", details={"kept_hours": settings.ENV.EXPLORER_KEEP_HOURS})
        return Response(shapes.ExplainedRequestSerializer(explained(row, caller(request))).data)


# Any user may ask a thousand times a minute: a page of one's own requests reads few rows.
OWN_EXAMINED = 500


class OwnRequestsView(CallerView):
    """The caller's refused requests."""

    permissions = {"GET": "user:read"}

    @extend_schema(parameters=[shapes.PageQuery], responses=shapes.OwnRequestsSerializer, tags=["users"])
    def get(self, request: Request) -> Response:
        """List the caller's own refused and failed requests of the last 24 hours, newest first."""
        query = parse_query(shapes.PageQuery, request)
        own = Equal("user_id", caller(request).user_id)
        query["search"] = dataclasses.replace(query["search"], conditions=(own, *REFUSED), examined=OWN_EXAMINED)
        return Response(shapes.OwnRequestsSerializer(page_of(query, for_caller)).data)
