"""The kinds of endpoints: who may call them, and which tier counts their requests."""

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
    """An endpoint where an attacker could guess secrets."""

    throttle_classes = [LoginAttemptThrottle]


class CallerView(APIView):
    """An endpoint for callers with the permission that `permissions` names for the method.

    Methods that are not in `permissions` are for all signed-in users.
    """

    permission_classes = [HasPermission]
    permissions: ClassVar[Mapping[str, str]] = {}


class SignedInView(CallerView):
    """An endpoint for signed-in users, not for API keys."""

    permission_classes = [SignedIn, HasPermission]


class AdminView(CallerView):
    """An endpoint for staff."""

    throttle_classes = [AdminThrottle]
