"""The caller of a request, as far as the access token tells: no database is asked."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.http import HttpRequest

from lucid_gateway.policy import keys
from lucid_gateway.policy.roles import PERMISSIONS, STAFF, Role

MAX_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `user_id` (UUID as text), role, and the token's `jti`, family, `exp` and epoch.

    With an API key `jti` is the key's id, `family` is empty, and `key_permissions` narrow the role's.
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
        """Whether an API key speaks, and nobody has signed in."""
        return self.key_permissions is not None

    @property
    def bucket(self) -> str:
        """Under which name the rules of operators speak of the caller: each user, and each API key on its own."""
        return f"key:{self.jti}" if self.by_api_key else f"user:{self.user_id}"

    @property
    def subject(self) -> str:
        """Whose requests the rate limits count."""
        return keys.api_key(self.user_id, self.jti) if self.by_api_key else keys.user(self.user_id)

    @property
    def permissions(self) -> frozenset[str]:
        """What the caller may do."""
        allowed = PERMISSIONS[self.role]
        return allowed if self.key_permissions is None else allowed & self.key_permissions


K = TypeVar("K", bound=Hashable)


class RememberedCallers(Generic[K]):
    """The callers of credentials that this process has checked lately; the oldest go first."""

    def __init__(self) -> None:
        self._callers: OrderedDict[K, tuple[Caller, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, credential: K) -> Caller | None:
        """Return the caller, None if the credential is not known or was checked too long ago."""
        caller, until = self._callers.get(credential, (None, 0.0))
        return caller if until > time.monotonic() else None

    def put(self, credential: K, caller: Caller, *, seconds: float) -> None:
        """Remember the caller for so long."""
        with self._lock:
            self._callers[credential] = caller, time.monotonic() + seconds
            self._callers.move_to_end(credential)
            if len(self._callers) > MAX_REMEMBERED:
                self._callers.popitem(last=False)

    def knows(self, credential: K) -> bool:
        """Return whether the credential was right when it was last checked, however long ago."""
        return credential in self._callers

    def forget(self, credential: K) -> None:
        """Forget a credential that is not right any more."""
        with self._lock:
            self._callers.pop(credential, None)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._callers.clear()


def caller_of(request: HttpRequest) -> Caller:
    """Return the caller of an authenticated request."""
    caller: Caller = request.caller  # type: ignore[attr-defined]
    return caller
