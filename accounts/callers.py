"""Callers: those that a user or an API key would be, and the cache of callers whose credentials were checked."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from accounts.enrolment import must_enrol
from accounts.models import ApiKey, User
from lucid_gateway.kernel.caller import Caller
from lucid_gateway.policy.roles import Role

MAX_CALLERS = 10_000
K = TypeVar("K", bound=Hashable)


def caller_of_user(user: User) -> Caller:
    """Return the caller that the user is with a token issued now; the token has no id."""
    return Caller(
        str(user.pk), Role(user.role), jti="", family="", expires_at=0, epoch=user.token_epoch,
        must_enrol=must_enrol(user),
    )  # fmt: skip


def caller_of_api_key(key: ApiKey) -> Caller:
    """Return the caller that the key's owner is with the key."""
    ends = int(key.expires_at.timestamp()) if key.expires_at else 0
    user = key.user
    return Caller(
        str(user.pk), Role(user.role), key.key_id, "", ends, user.token_epoch, frozenset(key.permissions),
        must_enrol(user),
    )  # fmt: skip


class CallerCache(Generic[K]):
    """The callers of recently checked credentials; a full cache drops the oldest entry."""

    def __init__(self) -> None:
        self._callers: OrderedDict[K, tuple[Caller, float]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, credential: K) -> Caller | None:
        """Return the caller, or None if the credential is unknown or its entry has expired."""
        caller, until = self._callers.get(credential, (None, 0.0))
        return caller if until > time.monotonic() else None

    def put(self, credential: K, caller: Caller, *, seconds: float) -> None:
        with self._lock:
            self._callers[credential] = caller, time.monotonic() + seconds
            self._callers.move_to_end(credential)
            if len(self._callers) > MAX_CALLERS:
                self._callers.popitem(last=False)

    def knows(self, credential: K) -> bool:
        """Return whether the credential was valid when it was last checked, even if its entry has expired since."""
        return credential in self._callers

    def forget(self, credential: K) -> None:
        with self._lock:
            self._callers.pop(credential, None)

    def clear(self) -> None:
        with self._lock:
            self._callers.clear()
