"""Endpoints for the caller's sessions. Staff may read those of other users."""

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from drf_spectacular.utils import extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.views.idempotent import idempotent
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query, uuid_of
from lucid_gateway.policy.errors import NotFound, PreconditionFailed
from ratelimit.endpoints import CallerView
from sessions_api.deletion import delete_session
from sessions_api.etags import ETAG, IF_MATCH, IF_NONE_MATCH, etag, expected_version, with_etag
from sessions_api.lifecycle import change_session, create_session, replace_session
from sessions_api.models import Session
from sessions_api.readers import may_read_all, readable_user_id
from sessions_api.serializers import sessions as shapes
from sessions_api.totals import settle_all

T = TypeVar("T")
TRIES = 20
LOOKUPS = {
    "status": "status",
    "trust_policy_id": "trust_policy_id",
    "name": "name__icontains",
    "created_since": "created_at__gte",
    "created_until": "created_at__lte",
}


class SessionsView(CallerView):
    permissions = {"GET": "session:read", "POST": "session:create"}

    @extend_schema(
        operation_id="sessions_list", parameters=[shapes.SessionsQuery], responses=shapes.SessionsPageSerializer,
        tags=["sessions"],
    )  # fmt: skip
    def get(self, request: Request) -> Response:
        """List the caller's sessions. Staff may list another user's with `user_id`."""
        query = parse_query(shapes.SessionsQuery, request)
        filters = {lookup: query[name] for name, lookup in LOOKUPS.items() if name in query}
        owner = readable_user_id(caller(request), query.get("user_id"))
        sessions = Session.objects.owned_by(owner).filter(**filters)
        return Response(page_of(sessions, query, name="sessions", show=lambda page: sessions_page(page, owner)))

    @idempotent()
    @extend_schema(
        request=shapes.NewSessionSerializer, responses={201: shapes.SessionSerializer}, parameters=[ETAG],
        tags=["sessions"],
    )  # fmt: skip
    def post(self, request: Request, resource_id: uuid.UUID | None = None) -> Response:
        """Start a session; 409 if the caller already has 100 active ones."""
        fields = parse(shapes.NewSessionSerializer, request)
        session = create_session(caller(request).user_id, session_id=resource_id, **fields)
        return answer(request, session, status.HTTP_201_CREATED, Location=f"/api/v1/sessions/{session.pk}")


class SessionView(CallerView):
    permissions = {
        "GET": "session:read", "PUT": "session:update", "PATCH": "session:update", "DELETE": "session:delete",
    }  # fmt: skip

    @extend_schema(
        parameters=[IF_NONE_MATCH, ETAG], responses={200: shapes.SessionSerializer, 304: None}, tags=["sessions"]
    )
    def get(self, request: Request, session_id: str) -> Response:
        """Return a session. Its owner and staff may read it."""
        reader = caller(request)
        rows = Session.objects.undeleted() if may_read_all(reader) else Session.objects.owned_by(reader.user_id)
        return answer(request, get_by_id(rows, session_id))

    @extend_schema(
        request=shapes.ChangedSessionSerializer, responses=shapes.SessionSerializer, parameters=[IF_MATCH, ETAG],
        examples=shapes.WHOLLY_CHANGED, tags=["sessions"],
    )  # fmt: skip
    def put(self, request: Request, session_id: str) -> Response:
        """Replace name, description and metadata; an omitted status, size limit or policy stays."""

        def replace(session: Session, version: int | None) -> Session:
            return replace_session(session, version=version, **parse(shapes.ChangedSessionSerializer, request))

        return answer(request, self.change(request, session_id, replace))

    @extend_schema(
        request=shapes.ChangedSessionSerializer, responses=shapes.SessionSerializer, parameters=[IF_MATCH, ETAG],
        examples=shapes.PARTLY_CHANGED, tags=["sessions"],
    )  # fmt: skip
    def patch(self, request: Request, session_id: str) -> Response:
        """Change some fields of the session. A status ends an active session for good."""

        def patch(session: Session, version: int | None) -> Session:
            data = parse(shapes.ChangedSessionSerializer, request, partial=True)
            return change_session(session, version=version, changes=data)

        return answer(request, self.change(request, session_id, patch))

    @extend_schema(parameters=[IF_MATCH], responses={202: shapes.PendingSerializer, 204: None}, tags=["sessions"])
    def delete(self, request: Request, session_id: str) -> Response:
        """Delete the session with its chunks and manifest; 202 if its cluster still holds data: repeat it later."""

        def delete(session: Session, version: int | None) -> bool:
            return delete_session(session, version=version, by=caller(request))

        if self.change(request, session_id, delete, also_half_deleted=True):
            return Response(status=status.HTTP_204_NO_CONTENT)
        return Response(shapes.PENDING, status=status.HTTP_202_ACCEPTED)

    def change(
        self, request: Request, session_id: str, change: Callable[[Session, int | None], T],
        *, also_half_deleted: bool = False,
    ) -> T:  # fmt: skip
        """Apply `change` to one of the caller's sessions; return its result or raise NotAUUID, NotFound or
        PreconditionFailed. With If-Match it retries as long as the tag matches: uploads raise the version, not the tag.
        """
        rows = Session.objects.filter(user_id=caller(request).user_id)
        for _ in range(TRIES):
            session = get_by_id(rows if also_half_deleted else rows.undeleted(), session_id)
            version = expected_version_of(request, session)
            with suppress(PreconditionFailed):
                return change(session, version)
        raise PreconditionFailed()


def get_by_id(rows: Any, session_id: str) -> Session:
    """Return the session with that id; raise NotAUUID or NotFound."""
    session: Session | None = rows.filter(pk=uuid_of(session_id)).first()
    if session is None:
        raise NotFound()
    return session


def sessions_page(page: Any, owner: uuid.UUID | str) -> Any:
    """Return a page of the owner's sessions as JSON data. The keys are read first, from an index that holds them in
    order; then only the rows of this page are read.
    """
    keys = list(page.values_list("pk", flat=True))
    found = Session.objects.owned_by(owner).in_bulk(keys)
    sessions = [found[key] for key in keys if key in found]
    settle_all(sessions)
    return shapes.SessionSerializer(sessions, many=True).data


def session_data(session: Session) -> Any:
    """Return the session with its totals as JSON data."""
    settle_all([session])
    return shapes.SessionSerializer(session).data


def answer(request: Request, session: Session, code: int = status.HTTP_200_OK, **headers: str) -> Response:
    """Return the session with its entity tag."""
    data = session_data(session)
    return with_etag(request, etag(data), Response(data, status=code, headers=headers))


def expected_version_of(request: Request, session: Session) -> int | None:
    """Return the version that If-Match demands, None for any version; raise PreconditionFailed."""
    return None if session.is_deleted else expected_version(request, etag(session_data(session)), session.version)
