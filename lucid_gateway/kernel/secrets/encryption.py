"""Secrets that must be read again are encrypted at rest: Fernet, under a key that follows from SECRET_KEY."""

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class CannotDecrypt(Exception):
    """The text was encrypted under another SECRET_KEY than this one and those in SECRET_KEY_FALLBACKS."""


def encrypt(text: str) -> str:
    """Return the text encrypted under SECRET_KEY."""
    return cipher().encrypt(text.encode()).decode()


def decrypt(encrypted: str) -> str:
    """Return the text; raise CannotDecrypt."""
    try:
        return cipher().decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise CannotDecrypt() from error


def cipher() -> MultiFernet:
    """Return what encrypts under SECRET_KEY and decrypts under the earlier ones, too."""
    return MultiFernet([key_from(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def key_from(secret: str) -> Fernet:
    """Return the cipher that follows from the secret (HKDF, RFC 5869)."""
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"lucid encryption at rest").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
