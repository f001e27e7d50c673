"""The caller of a request, as far as the access token tells: no database is asked."""

from dataclasses import dataclass

from django.http import HttpRequest

from accounts.roles import PERMISSIONS, STAFF, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `user_id` (UUID as text), role, and the token's `jti`, family and `exp`."""

    user_id: str
    role: Role
    jti: str
    family: str
    expires_at: int
    is_authenticated: bool = True
    is_active: bool = True

    @property
    def pk(self) -> str:
        """The key, under the name that DRF and the logs look for."""
        return self.user_id

    @property
    def is_staff(self) -> bool:
        """Whether the role is admin or above."""
        return self.role in STAFF

    @property
    def permissions(self) -> frozenset[str]:
        """What the caller may do."""
        return PERMISSIONS[self.role]


def caller_of(request: HttpRequest) -> Caller:
    """Return the caller of an authenticated request."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller
