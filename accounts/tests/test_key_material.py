"""Keys for every algorithm of JWT_ALGORITHM."""

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from accounts.tokens.key_material import key_material

SECRET = "a secret that is long enough for a test 0123456789"


def rsa_pem() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA"])
def test_processes_with_the_same_secret_verify_each_others_signatures(algorithm: str) -> None:
    secret = rsa_pem() if algorithm == "RS256" else SECRET + "x" * 32
    token = jwt.encode({"a": 1}, key_material(secret, algorithm).signing, algorithm=algorithm)

    assert jwt.decode(token, key_material(secret, algorithm).verifying, algorithms=[algorithm]) == {"a": 1}


@pytest.mark.parametrize("algorithm", ["HS256", "ES256", "EdDSA"])
def test_another_secret_makes_another_key(algorithm: str) -> None:
    token = jwt.encode({"a": 1}, key_material(SECRET, algorithm).signing, algorithm=algorithm)

    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, key_material(SECRET + "!", algorithm).verifying, algorithms=[algorithm])


def test_a_secret_that_is_no_rsa_key_is_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        key_material(SECRET, "RS256")


def test_keys_are_not_shown_when_they_are_printed() -> None:
    assert SECRET not in repr(key_material(SECRET, "HS256"))
