"""Checking passwords, and this project's rules for them, besides Django's."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import gevent
from django.contrib.auth.hashers import is_password_usable, make_password, verify_password
from django.core.exceptions import ValidationError
from gevent.monkey import is_module_patched

from accounts.models import User
from lucid_gateway.policy.errors import ServiceUnavailable

MAX_LENGTH = 128
QUEUE_SECONDS = 5.0
T = TypeVar("T")


class Hashing:
    """Runs one hash at a time in a worker, as Argon2 takes a tenth of a second and 100 MiB."""

    def __init__(self) -> None:
        self.turn = threading.BoundedSemaphore(1)

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; in a gevent worker it runs on a real thread, so that other requests go on.

        Raises ServiceUnavailable if its turn does not come within QUEUE_SECONDS.
        """
        if not self.turn.acquire(timeout=QUEUE_SECONDS):
            raise ServiceUnavailable("Too many passwords are being checked")
        try:
            if not is_module_patched("socket"):
                return work()
            result: T = gevent.get_hub().threadpool.apply(work)
            return result
        finally:
            self.turn.release()


# Two queues, so that registrations do not hold up logins.
checking, making = Hashing(), Hashing()


def check_password(user: User | None, password: str) -> bool:
    """Return whether it is the user's password; without a user take the same time."""
    known = user.password if user and is_password_usable(user.password) else None
    right, outdated = checking.run(lambda: verify_password(password, known or placeholder_hash()))
    if not right or user is None or known is None:
        return False
    if outdated:
        renewed = hash_password(password)
        if User.objects.filter(pk=user.pk, password=known).update(password=renewed):
            user.password = renewed
    return True


def hash_password(password: str) -> str:
    """Return the hash to store; raise ServiceUnavailable if too many are waiting."""
    return making.run(lambda: make_password(password))


@cache
def placeholder_hash() -> str:
    """Return a hash to compare with if there is no account."""
    return make_password("nobody's password")


class CharacterClassesValidator:
    """Requires an upper-case letter, a lower-case letter and a digit."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if one of the three is missing."""
        kinds = (str.isupper, str.islower, str.isdigit)
        if not all(any(kind(character) for character in password) for kind in kinds):
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return "The password must contain an upper-case letter, a lower-case letter and a digit."


class MaximumLengthValidator:
    """Refuses passwords that are so long that hashing them costs too much."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if the password is too long."""
        if len(password) > MAX_LENGTH:
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return f"The password must be at most {MAX_LENGTH} characters long."
