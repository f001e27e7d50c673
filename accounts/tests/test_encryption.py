"""Encryption at rest, and a new SECRET_KEY."""

import base64

import pytest
from pytest_django import Settings

from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt, encrypt

OLD, NEW = "the old key of an installation 0123456789", "the new key of an installation 0123456789"


@pytest.mark.parametrize("text", ["", "secret", "Grüße 🦊\n\0", "x" * 10_000])
def test_decryption_returns_the_encrypted_text(text: str) -> None:
    encrypted = encrypt(text)

    assert decrypt(encrypted) == text
    assert len(text) < 3 or text not in encrypted


def test_the_same_text_is_encrypted_differently_each_time() -> None:
    assert encrypt("secret") != encrypt("secret")


def test_another_secret_key_cannot_decrypt(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    encrypted = encrypt("secret")
    settings.SECRET_KEY = NEW

    with pytest.raises(CannotDecrypt):
        decrypt(encrypted)


def test_fallback_keys_decrypt_but_do_not_encrypt(settings: Settings) -> None:
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = OLD, []
    old = encrypt("secret")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = NEW, ["another one 0123456789", OLD]
    assert decrypt(old) == "secret"
    new = encrypt("secret")

    settings.SECRET_KEY_FALLBACKS = []
    assert decrypt(new) == "secret"
    with pytest.raises(CannotDecrypt):
        decrypt(old)


@pytest.mark.parametrize("place", [0, 5, 20, 40, -2])
def test_tampered_text_is_refused(place: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(encrypt("secret")))
    raw[place] ^= 1

    with pytest.raises(CannotDecrypt):
        decrypt(base64.urlsafe_b64encode(raw).decode())


@pytest.mark.parametrize("text", ["", "secret", "gAAAA", "ü", "\0"])
def test_a_text_that_was_never_encrypted_is_refused(text: str) -> None:
    with pytest.raises(CannotDecrypt):
        decrypt(text)


def test_the_key_differs_from_the_secret_key_and_the_key_of_tokens(settings: Settings) -> None:
    settings.SECRET_KEY = base64.urlsafe_b64encode(b"k" * 32).decode()
    encrypted = encrypt("secret")

    from cryptography.fernet import Fernet, InvalidToken

    with pytest.raises(InvalidToken):
        Fernet(settings.SECRET_KEY).decrypt(encrypted)
