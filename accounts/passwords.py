"""Checking passwords, and the project's own rules for them beside Django's validators (the contract, section 7)."""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import gevent
from django.contrib.auth.hashers import is_password_usable, make_password, verify_password
from django.core.exceptions import ValidationError
from gevent.monkey import is_module_patched

from accounts.models import User

MAX_LENGTH = 128
T = TypeVar("T")
# Argon2 takes 100 MiB while it runs: as many at a time as a worker can afford.
hashing = threading.BoundedSemaphore(2)


def check_password(user: User | None, password: str) -> bool:
    """Return whether it is the user's password; without a user take the time that one would have taken."""
    encoded = user.password if user and is_password_usable(user.password) else nobodys_password()
    right, outdated = beside_the_loop(lambda: verify_password(password, encoded))
    if not right or user is None or encoded != user.password:
        return False
    if outdated:
        user.password = hash_password(password)
        user.save(update_fields=["password"])
    return True


def hash_password(password: str) -> str:
    """Return the hash to store."""
    return beside_the_loop(lambda: make_password(password))


@cache
def nobodys_password() -> str:
    """Return a hash to compare with where there is no account."""
    return make_password("nobody's password")


def beside_the_loop(work: Callable[[], T]) -> T:
    """Return what `work` returns; in a gevent worker it runs on a real thread, so that other requests go on."""
    with hashing:
        if not is_module_patched("socket"):
            return work()
        result: T = gevent.get_hub().threadpool.apply(work)
        return result


class CharacterClassesValidator:
    """Asks for an upper-case letter, a lower-case letter and a digit."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if a kind of character is missing."""
        kinds = (str.isupper, str.islower, str.isdigit)
        if not all(any(kind(character) for character in password) for kind in kinds):
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return "The password must hold an upper-case letter, a lower-case letter and a digit."


class MaximumLengthValidator:
    """Refuses passwords so long that hashing them is an attack."""

    def validate(self, password: str, user: Any = None) -> None:
        """Raise ValidationError if the password is too long."""
        if len(password) > MAX_LENGTH:
            raise ValidationError(self.get_help_text(), code="weak_password")

    def get_help_text(self) -> str:
        """Return the rule as a sentence."""
        return f"The password must be at most {MAX_LENGTH} characters long."
