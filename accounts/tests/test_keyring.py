"""The keys that sign, and how a token names its own."""

from datetime import timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.utils import timezone

from accounts.models import SigningKey as StoredKey
from accounts.models import User
from accounts.tests.forge import forge
from accounts.tokens.issuing import AccessToken, TokenPair
from accounts.tokens.key_material import key_material
from accounts.tokens.keyring import Keyring, KeyringEntry, keyring, keyring_cache, token_backend
from accounts.tokens.signing_keys import bootstrap_kid
from lucid_gateway.kernel.secrets.encryption import encrypt
from lucid_gateway.policy.claims import AUDIENCE, ISSUER
from testing.plugin import JWT_SECRET_KEY


@pytest.fixture
def two_keys() -> Keyring:
    """A new key that signs, beside the environment's, which still verifies."""
    old = keyring().active
    new = KeyringEntry("new", "HS512", key_material("n" * 64, "HS512"))
    ring = keyring_cache.ring = Keyring(new, (new, old))
    return ring


def test_tokens_name_their_key_and_algorithm(tokens: TokenPair) -> None:
    for token in (tokens.access, tokens.refresh):
        assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": keyring().active.kid}


def test_tokens_name_their_issuer_and_audience(owner: User, tokens: TokenPair) -> None:
    claims = token_backend().decode(tokens.access)

    assert (claims["iss"], claims["aud"]) == (ISSUER, AUDIENCE)
    assert claims["user_id"] == claims["sub"] == str(owner.pk)
    assert claims["exp"] - claims["iat"] == 900
    assert set(claims) == {"type", "exp", "iat", "jti", "user_id", "sub", "role", "family", "iss", "aud", "epoch"}


def test_a_stored_rsa_key_that_is_too_weak_neither_signs_nor_verifies(
    db: None, caplog: pytest.LogCaptureFixture
) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    now = timezone.now()
    weak = {"algorithm": "RS256", "secret": encrypt(pem), "state": "active"}
    fit = {"algorithm": "HS256", "secret": encrypt(JWT_SECRET_KEY), "state": "retiring"}
    StoredKey.objects.create(kid="weak", activated_at=now, **weak)
    StoredKey.objects.create(kid="fit", activated_at=now, verify_until=now + timedelta(hours=1), **fit)

    ring = keyring_cache.load()

    assert [key.kid for key in ring.verifying] == [ring.active.kid] == ["fit"]
    assert "signing key weak is not used: it is an RSA key of 1024 bits" in caplog.text


def test_the_key_id_does_not_reveal_the_secret() -> None:
    assert keyring().active.kid not in JWT_SECRET_KEY
    assert JWT_SECRET_KEY not in repr(keyring())


def test_the_key_id_is_the_same_in_every_process() -> None:
    assert bootstrap_kid(JWT_SECRET_KEY) == keyring().active.kid == "afc689027ec32eec"


def test_a_retiring_key_still_verifies(two_keys: Keyring, owner: User) -> None:
    assert AccessToken(forge(owner, header={"kid": bootstrap_kid(JWT_SECRET_KEY)}))["user_id"] == str(owner.pk)  # type: ignore[arg-type]
    assert jwt.get_unverified_header(token_backend().encode({}))["kid"] == "new"


def test_a_key_has_one_algorithm(two_keys: Keyring) -> None:
    assert two_keys.key_named_by({"kid": "new", "alg": "HS512"}) is two_keys.active
    with pytest.raises(jwt.InvalidTokenError):
        two_keys.key_named_by({"kid": "new", "alg": "HS256"})
    with pytest.raises(jwt.InvalidTokenError):
        two_keys.key_named_by({"kid": two_keys.verifying[1].kid, "alg": "HS512"})
