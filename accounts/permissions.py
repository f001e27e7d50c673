"""DRF permissions by the contract's permission names."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.callers import caller_of


class HasRoutePermission(BasePermission):
    """Asks for what `view.permission_for(request)` names; None asks for a caller and nothing more."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Return whether the caller may."""
        if not request.user:
            return False
        needed: str | None = view.permission_for(request)
        return needed is None or needed in caller_of(request._request).permissions
