"""Who sends a request, as far as its credential tells: no database is asked."""

from dataclasses import dataclass

from lucid_gateway.policy import keys
from lucid_gateway.policy.roles import PERMISSIONS, STAFF, Role


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller: `user_id` (UUID as text), role, and the token's `jti`, family, `exp` and epoch.

    With an API key `jti` is the key's id, `family` is empty, and `key_permissions` narrow the role's permissions.
    """

    user_id: str
    role: Role
    jti: str
    family: str
    expires_at: int
    epoch: int = 0
    key_permissions: frozenset[str] | None = None
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
    def by_api_key(self) -> bool:
        """Whether the credential is an API key: nobody has signed in."""
        return self.key_permissions is not None

    @property
    def bucket(self) -> str:
        """The caller's name in the rules of operators: each user, and each API key on its own."""
        return f"key:{self.jti}" if self.by_api_key else f"user:{self.user_id}"

    @property
    def subject(self) -> str:
        """The subject that the rate limits count."""
        return keys.api_key(self.user_id, self.jti) if self.by_api_key else keys.user(self.user_id)

    @property
    def permissions(self) -> frozenset[str]:
        """What the caller may do."""
        allowed = PERMISSIONS[self.role]
        return allowed if self.key_permissions is None else allowed & self.key_permissions
