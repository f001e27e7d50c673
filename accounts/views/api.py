"""What the endpoints have in common: parsing, the caller's account, and who is let in."""

import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from rest_framework.request import Request
from rest_framework.views import APIView

from accounts.callers import Caller, caller_of
from accounts.models import User
from accounts.permissions import HasPermission, SignedIn
from lucid_gateway.api.json_types import IN_A_BODY, IN_A_QUERY, Rules, typed
from lucid_gateway.policy.errors import NotAUUID, NotFound, Unauthenticated
from ratelimit.throttling import LoginAttemptThrottle, PublicThrottle


class PublicView(APIView):
    """An endpoint for anyone, limited by address."""

    authentication_classes = []
    permission_classes = []
    throttle_classes = [PublicThrottle]


class LoginView(PublicView):
    """An endpoint that somebody could guess at."""

    throttle_classes = [LoginAttemptThrottle]


class CallerView(APIView):
    """An endpoint for callers with the permission that `permissions` name for the method.

    A method that is not in `permissions` is for users who have signed in.
    """

    permission_classes = [HasPermission]
    permissions: ClassVar[Mapping[str, str]] = {}


class SignedInView(CallerView):
    """An endpoint for users who have signed in, not for API keys."""

    permission_classes = [SignedIn, HasPermission]


def parse(shape: type[Any], request: Request, *, partial: bool = False, **context: Any) -> dict[str, Any]:
    """Return the valid data of the request's body, with `partial` of what was sent; raise DRF's ValidationError."""
    return valid(shape(data=request.data, partial=partial, context=context), IN_A_BODY)


def parse_query(shape: type[Any], request: Request) -> dict[str, Any]:
    """Return the valid data of the request's query; raise DRF's ValidationError."""
    return valid(shape(data=request.query_params), IN_A_QUERY)


def valid(serializer: Any, types: Rules | None = None) -> dict[str, Any]:
    """Return the serializer's data; raise DRF's ValidationError, also for other types than the rules allow."""
    if types is not None:
        serializer.initial_data = typed(serializer, serializer.initial_data, types)
    serializer.is_valid(raise_exception=True)
    data: dict[str, Any] = serializer.validated_data
    return data


def uuid_of(text: str) -> uuid.UUID:
    """Return the UUID of a path's segment; raise NotAUUID."""
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise NotAUUID() from error


def caller(request: Request) -> Caller:
    """Return who calls."""
    return caller_of(request._request)


def account_of(request: Request) -> User:
    """Return the caller's account; raise Unauthenticated if it is gone."""
    user = User.objects.welcome(pk=caller(request).user_id)
    if user is None:
        raise Unauthenticated()
    return user


def user_or_404(text: str) -> User:
    """Return the user of that id; raise NotAUUID or NotFound."""
    user = User.objects.filter(pk=uuid_of(text)).first()
    if user is None:
        raise NotFound()
    return user
