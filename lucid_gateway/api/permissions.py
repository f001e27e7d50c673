"""DRF permission classes that check the API's permissions."""

import uuid
from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from lucid_gateway.kernel.record import caller_of, record_of
from lucid_gateway.policy.errors import InsufficientPermissions, NotAUUID
from lucid_gateway.policy.reasons import Step

NEEDS_SECOND_FACTOR = "Staff need a second factor for this: add one at /admin/second-factor/, then refresh the token"


def require(request: Request, permission: str) -> bool:
    """Return True if the caller has the permission, otherwise raise InsufficientPermissions with its name."""
    record, caller = record_of(request._request), caller_of(request._request)
    if permission not in caller.permissions:
        needs_factor = permission in caller.permissions_with_second_factor
        if needs_factor:
            record.note(needs="second_factor")
        raise InsufficientPermissions(NEEDS_SECOND_FACTOR if needs_factor else None, details={"permission": permission})
    record.passed(Step.PERMISSION)
    return True


def lacks_token(request: Request) -> bool:
    """Return whether the caller has an API key instead of an access token, and note that for staff."""
    by_api_key = caller_of(request._request).by_api_key
    if by_api_key:
        record_of(request._request).note(needs="access_token")
    return by_api_key


class HasRoutePermission(BasePermission):
    """Requires the permission that `view.permission_for(request)` returns; None means that the view answers 405."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user:
            return False
        needed: str | None = view.permission_for(request)
        return needed is None or require(request, needed)


class SignedIn(BasePermission):
    """Requires an access token, because an API key may not manage credentials."""

    def has_permission(self, request: Request, view: Any) -> bool:
        if not request.user:
            return False
        return not lacks_token(request)


class HasPermission(BasePermission):
    """Requires the permission that the view's `permissions` list for the method (contract, section 6).

    A method without a permission requires an access token: an API key can only do what a permission allows.
    """

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller has the permission; True for a method that the view does not have, which is 405."""
        if not request.user:
            return False
        # Django answers HEAD with the handler of GET.
        needed: str | None = view.permissions.get("GET" if request.method == "HEAD" else request.method)
        if needed is None:
            return request.method not in view.allowed_methods or not lacks_token(request)
        return require(request, needed)


class IsSelfOrReadsUsers(BasePermission):
    """Lets users read their own account, and staff all accounts; others do not even learn which accounts exist."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller may read the user in the path; raise NotAUUID."""
        if not request.user:
            return False
        caller = caller_of(request._request)
        try:
            own = str(uuid.UUID(view.kwargs["user_id"])) == caller.user_id
        except ValueError as error:
            raise NotAUUID() from error
        return require(request, "user:read" if own else "admin:read")
