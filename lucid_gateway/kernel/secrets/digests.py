"""Hashes of secrets: the gateway stores these, from which the secret cannot be found."""

import hashlib
import hmac

from django.conf import settings


def keyed_hash(purpose: str, text: str) -> str:
    """Return a hash under SECRET_KEY, so that a six-digit code cannot be found by hashing all of them."""
    return hmac.digest(settings.SECRET_KEY.encode(), f"{purpose} {text}".encode(), "sha256").hex()


def secret_hash(secret: str) -> str:
    """Return a hash without a key, which is enough for a secret of at least 80 random bits."""
    return hashlib.sha256(secret.encode()).hexdigest()
