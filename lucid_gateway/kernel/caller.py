"""The caller of a request, as its credential describes it, without a database query."""

from dataclasses import dataclass

from lucid_gateway.policy import keys
from lucid_gateway.policy.roles import PERMISSIONS, STAFF, WITHOUT_SECOND_FACTOR, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """`user_id` is a UUID as text; `jti`, `family`, `expires_at` (`exp`) and `epoch` are the token's.

    With an API key, `jti` is the key's id, `family` is empty, and `key_permissions` restrict the role's permissions.
    Staff who `must_enrol` had no second factor when the token was issued, and have no permissions of staff.
    """

    user_id: str
    role: Role
    jti: str
    family: str
    expires_at: int
    epoch: int = 0
    key_permissions: frozenset[str] | None = None
    must_enrol: bool = False
    is_authenticated: bool = True
    is_active: bool = True

    @property
    def pk(self) -> str:
        """The user's id, under the name that DRF's throttles read."""
        return self.user_id

    @property
    def is_staff(self) -> bool:
        return self.role in STAFF

    @property
    def by_api_key(self) -> bool:
        """Whether the credential is an API key rather than a token of a login."""
        return self.key_permissions is not None

    @property
    def bucket(self) -> str:
        """The caller's name in operators' rules, which apply to each user and each API key separately."""
        return f"key:{self.jti}" if self.by_api_key else f"user:{self.user_id}"

    @property
    def subject(self) -> str:
        """The subject of the rate limits (`policy.keys`)."""
        return keys.api_key(self.user_id, self.jti) if self.by_api_key else keys.user(self.user_id)

    @property
    def permissions(self) -> frozenset[str]:
        allowed = self.permissions_with_second_factor
        return allowed & WITHOUT_SECOND_FACTOR if self.must_enrol else allowed

    @property
    def permissions_with_second_factor(self) -> frozenset[str]:
        """The permissions that the caller has, or would have after adding a second factor."""
        allowed = PERMISSIONS[self.role]
        return allowed if self.key_permissions is None else allowed & self.key_permissions
