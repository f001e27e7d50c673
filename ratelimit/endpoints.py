"""The kinds of endpoints: who is let in, and in which tier the requests are counted."""

from collections.abc import Mapping
from typing import ClassVar

from rest_framework.views import APIView

from lucid_gateway.api.permissions import HasPermission, SignedIn
from ratelimit.throttling import AdminThrottle, LoginAttemptThrottle, PublicThrottle


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


class AdminView(CallerView):
    """An endpoint for staff."""

    throttle_classes = [AdminThrottle]
