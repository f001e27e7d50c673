"""DRF permissions by the contract's permission names."""

import uuid
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from lucid_gateway.kernel.record import caller_of, record_of
from lucid_gateway.policy.errors import InsufficientPermissions, NotAUUID
from lucid_gateway.policy.reasons import Step


def may(request: Request, permission: str) -> bool:
    """Return True if the caller has the permission; raise InsufficientPermissions, which names it."""
    record = record_of(request._request)
    if permission not in caller_of(request._request).permissions:
        raise InsufficientPermissions(details={"permission": permission})
    record.passed(Step.PERMISSION)
    return True


class HasRoutePermission(BasePermission):
    """Asks for the permission that `view.permission_for(request)` names; a method without a row is 405 for callers."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller may."""
        if not request.user:
            return False
        needed: str | None = view.permission_for(request)
        return needed is None or may(request, needed)


class SignedIn(BasePermission):
    """Asks for an access token: what manages credentials, an API key may not do."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether a user has signed in."""
        return bool(request.user) and not caller_of(request._request).by_api_key


class HasPermission(BasePermission):
    """Asks for what the view's `permissions` name for the method (the contract, section 6).

    A method that they do not name is for users who have signed in: an API key does nothing that no permission names.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller may; a method that the view does not have is 405 for every caller."""
        if not request.user:
            return False
        caller = caller_of(request._request)
        # Django answers HEAD by what answers GET.
        needed: str | None = view.permissions.get("GET" if request.method == "HEAD" else request.method)
        if needed is None:
            return not caller.by_api_key or request.method not in view.allowed_methods
        return may(request, needed)


class IsSelfOrReadsUsers(BasePermission):
    """Lets users read their own account, and staff everyone's: others learn nothing, not even who exists."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller may read the user of the path; raise NotAUUID."""
        if not request.user:
            return False
        caller = caller_of(request._request)
        try:
            own = str(uuid.UUID(view.kwargs["user_id"])) == caller.user_id
        except ValueError as error:
            raise NotAUUID() from error
        return may(request, "user:read" if own else "admin:read")
