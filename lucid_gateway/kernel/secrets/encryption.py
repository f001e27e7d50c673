"""Encryption at rest for secrets that the gateway must read again: Fernet, with a key derived from SECRET_KEY."""

import base64

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from django.conf import settings


class CannotDecrypt(Exception):
    """The text was encrypted neither under SECRET_KEY nor under one of SECRET_KEY_FALLBACKS."""


def encrypt(text: str) -> str:
    return cipher().encrypt(text.encode()).decode()


def decrypt(encrypted: str) -> str:
    """Return the plain text; raise CannotDecrypt."""
    try:
        return cipher().decrypt(encrypted.encode()).decode()
    except InvalidToken as error:
        raise CannotDecrypt() from error


def cipher() -> MultiFernet:
    """Return a cipher that encrypts under SECRET_KEY, and also decrypts under SECRET_KEY_FALLBACKS."""
    return MultiFernet([key_from(secret) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)])


def key_from(secret: str) -> Fernet:
    """Return the cipher whose key is derived from the secret (HKDF, RFC 5869)."""
    key = HKDF(hashes.SHA256(), 32, salt=None, info=b"lucid encryption at rest").derive(secret.encode())
    return Fernet(base64.urlsafe_b64encode(key))
