"""The admin API for users, locks, tokens and the audit log."""

from typing import Any

from django.db.models import Q
from django.http.response import HttpResponseBase
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import User
from accounts.serializers import staff as shapes
from accounts.serializers.users import ManagedUserSerializer
from accounts.users.locks import lock_user, unlock_user
from accounts.users.staff import change_role, end_sessions, may_manage
from accounts.views.api import user_or_404
from lucid_gateway.api.pagination import page_of
from lucid_gateway.api.requests import caller, parse, parse_query
from lucid_gateway.audit.events import record
from lucid_gateway.audit.export import export, matching_events
from lucid_gateway.policy.errors import InsufficientPermissions
from lucid_gateway.policy.roles import Role
from ratelimit.endpoints import AdminView


def managed_user(request: Request, user_id: str) -> User:
    """Return a user that the caller may act on; raise NotFound, NotAUUID or InsufficientPermissions."""
    user, operator = user_or_404(user_id), caller(request)
    if not may_manage(operator.role, operator.user_id, user):
        raise InsufficientPermissions("Only super admins can act on other staff")
    return user


class UsersAdminView(AdminView):
    """All users."""

    permissions = {"GET": "admin:read"}

    @extend_schema(parameters=[shapes.UsersQuery], responses=shapes.UsersPageSerializer, tags=["admin"])
    def get(self, request: Request) -> Response:
        """List users; filters are role, activity, lock, and a part of the email, the username or a name."""
        query = parse_query(shapes.UsersQuery, request)
        show = lambda page: ManagedUserSerializer(page, many=True).data  # noqa: E731
        return Response(page_of(users_matching(query), query, name="users", show=show))


def users_matching(query: dict[str, Any]) -> Any:
    """Return the users that match the query's filters."""
    exact = {name: query[name] for name in ("role", "is_active") if query.get(name) is not None}
    users = User.objects.filter(**exact)
    if text := query.get("q"):
        names = ("email", "username", "first_name", "last_name")
        anywhere = Q()
        for name in names:
            anywhere |= Q(**{f"{name}__icontains": text})
        users = users.filter(anywhere)
    if query["locked"] is not None:
        locked = Q(locked_until__gt=timezone.now())
        users = users.filter(locked) if query["locked"] else users.exclude(locked)
    return users


class LockUserView(AdminView):
    """Locks a user."""

    permissions = {"POST": "admin:write"}

    @extend_schema(request=shapes.LockSerializer, responses=ManagedUserSerializer, tags=["admin"])
    def post(self, request: Request, user_id: str) -> Response:
        """Lock a user: tokens, API keys and admin sessions stop with their next request; 409 for one's own."""
        user = managed_user(request, user_id)
        lock_user(user, by=caller(request).user_id, **parse(shapes.LockSerializer, request))
        return Response(ManagedUserSerializer(user).data)


class UnlockUserView(AdminView):
    """Unlocks a user."""

    permissions = {"POST": "admin:write"}

    @extend_schema(request=None, responses=ManagedUserSerializer, tags=["admin"])
    def post(self, request: Request, user_id: str) -> Response:
        """Unlock a user, who may then log in again."""
        user = managed_user(request, user_id)
        unlock_user(user, by=caller(request).user_id)
        return Response(ManagedUserSerializer(user).data)


class UserRoleView(AdminView):
    """Changes a user's role."""

    permissions = {"POST": "system:manage"}

    @extend_schema(request=shapes.RoleSerializer, responses=ManagedUserSerializer, tags=["admin"])
    def post(self, request: Request, user_id: str) -> Response:
        """Change a user's role; the user's tokens end."""
        user = managed_user(request, user_id)
        change_role(user, Role(parse(shapes.RoleSerializer, request)["role"]), by=caller(request).user_id)
        return Response(ManagedUserSerializer(user).data)


class RevokeTokensView(AdminView):
    """Ends a user's tokens."""

    permissions = {"POST": "admin:write"}

    @extend_schema(request=None, responses=shapes.RevokedSerializer, tags=["admin"])
    def post(self, request: Request, user_id: str) -> Response:
        """End all tokens and admin sessions of a user; API keys stay valid."""
        return Response({"revoked": end_sessions(managed_user(request, user_id), by=caller(request).user_id)})


class AuditView(AdminView):
    """The audit log."""

    permissions = {"GET": "admin:read"}

    @extend_schema(
        parameters=[shapes.AuditQuery],
        responses={
            (200, "application/json"): shapes.AuditPageSerializer,
            (200, "text/csv"): OpenApiResponse(str, "The exported events"),
            (200, "application/jsonl"): OpenApiResponse(str, "The exported events"),
        },
        tags=["admin"],
    )
    def get(self, request: Request) -> HttpResponseBase:
        """List events, or export all matching events as CSV or JSON lines."""
        query = parse_query(shapes.AuditQuery, request)
        filters = {name: value for name, value in query.items() if name not in NOT_FILTERS}
        events = matching_events(kind=filters.pop("type", ""), **filters)
        if query["format"] == "json":
            show = lambda page: shapes.AuditEventSerializer(page, many=True).data  # noqa: E731
            return Response(page_of(events, query, name="events", show=show))
        record("audit.exported", actor=caller(request).user_id, format=query["format"])
        return export(events, query["format"])


NOT_FILTERS = frozenset({"page", "limit", "sort", "format"})
