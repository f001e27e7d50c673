"""Hashes under which secrets are kept: nobody finds the secret from what is stored."""

import hashlib
import hmac

from django.conf import settings


def keyed_hash(purpose: str, text: str) -> str:
    """Return a hash that only this gateway can make: six digits are not to be found out from it by trying all."""
    return hmac.digest(settings.SECRET_KEY.encode(), f"{purpose} {text}".encode(), "sha256").hex()


def secret_hash(secret: str) -> str:
    """Return the hash of a secret that is too random to be guessed (80 bits and more), so that it needs no key."""
    return hashlib.sha256(secret.encode()).hexdigest()
