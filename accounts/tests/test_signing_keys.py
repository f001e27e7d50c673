"""Signing keys in the database: encrypted, published before they sign, rotated without refusing a valid token."""

import base64
import logging
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import IssuedToken, SigningKey, User
from accounts.tests.conftest import use
from accounts.tokens import signing_keys
from accounts.tokens.issuing import issue_tokens
from accounts.tokens.keyring import Keyring, KeyringCache, keyring_cache, token_backend
from accounts.tokens.signing_keys import ALGORITHMS, Rotation, bootstrap, bootstrap_kid, rotate
from conftest import ApiClient, error_code
from lucid_gateway.audit.models import AuditEvent
from lucid_gateway.policy.errors import ServiceUnavailable
from testing.plugin import JWT_SECRET_KEY

FIRST = bootstrap_kid(JWT_SECRET_KEY)
ANOTHER_SECRET_KEY = "another key of an installation 0123456789"
PRIVATE_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}  # RFC 7518, sections 6.2.2, 6.3.2, 6.4.1; RFC 8037


@pytest.fixture(autouse=True)
def first_key(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key is stored, and RSA keys are short, so that they are made quickly."""
    monkeypatch.setattr(signing_keys, "RSA_BITS", 2048)
    bootstrap()
    load()


def load() -> Keyring:
    """Read and return the keyring."""
    keyring_cache.ring = None
    return keyring_cache.load()


def rotate_now(algorithm: str = "HS256", *, retire_now: bool = False) -> Rotation:
    """Rotate without the wait, and read the keys again."""
    rotation = rotate(algorithm, retire_now=retire_now, wait=lambda _: None)
    load()
    return rotation


def states() -> dict[str, str]:
    """Return the state of each key by its id."""
    return dict(SigningKey.objects.values_list("kid", "state"))


def verifies(token: str) -> bool:
    """Return whether a process that has just read the keys accepts the token."""
    ring = KeyringCache().load()
    key = next((key for key in ring.verifying if key.kid == jwt.get_unverified_header(token)["kid"]), None)
    return key is not None and bool(
        jwt.decode(token, key.material.verifying, algorithms=[key.algorithm], audience="lucid-api")
    )


@pytest.mark.usefixtures("transactional_db")
def test_the_first_key_comes_from_the_environment_with_a_next_one_beside_it() -> None:
    assert sorted(states().values()) == ["active", "next"]
    assert states()[FIRST] == "active"
    assert load().active.kid == FIRST

    bootstrap()
    assert len(states()) == 2


def test_an_empty_table_gets_its_first_keys() -> None:
    SigningKey.objects.all().delete()

    assert KeyringCache().load().active.kid == FIRST
    assert sorted(states().values()) == ["active", "next"]


@pytest.mark.parametrize("algorithm", ["HS256", "RS256"])
def test_secrets_are_encrypted_at_rest(algorithm: str) -> None:
    rotate_now(algorithm)

    stored = repr(list(SigningKey.objects.values())) + repr(list(AuditEvent.objects.values()))
    for secret in (JWT_SECRET_KEY, base64.b64encode(JWT_SECRET_KEY.encode()).decode(), "PRIVATE KEY"):
        assert secret not in stored
    assert all(secret.startswith("gAAAA") for secret in SigningKey.objects.values_list("secret", flat=True))


def test_each_key_has_a_secret_and_an_id_of_its_own() -> None:
    for _ in range(3):
        rotate_now()
    ring = load()

    assert len({key.kid for key in ring.verifying}) == len({key.material.signing for key in ring.verifying}) == 5
    assert all(len(key.material.signing) >= 64 for key in ring.verifying if key.kid != FIRST)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_rotation_changes_the_algorithm_and_earlier_tokens_stay_valid(
    api: ApiClient, owner: User, algorithm: str
) -> None:
    earlier = issue_tokens(owner)
    rotation = rotate_now(algorithm)
    new = issue_tokens(owner)

    header = jwt.get_unverified_header(new.access)
    assert (header["kid"], header["alg"]) == (rotation.active, algorithm)
    assert rotation.replaced == (FIRST,)
    assert states()[FIRST] == "retiring"
    for pair in (earlier, new):
        assert verifies(pair.access)
        assert api.send("get", "/users/me", token=pair.access).status_code == 200
        assert use(api, pair.refresh) == 200


def test_the_next_key_becomes_active_and_another_is_published() -> None:
    (waiting,) = [kid for kid, state in states().items() if state == "next"]
    assert waiting in {key.kid for key in load().verifying}  # all workers know it before it signs

    assert rotate_now().active == waiting
    assert sorted(states().values()) == ["active", "next", "retiring"]


def test_a_next_key_for_another_algorithm_is_not_used() -> None:
    (waiting,) = [kid for kid, state in states().items() if state == "next"]

    assert rotate_now("EdDSA").active != waiting
    assert states()[waiting] == "next"


def test_a_rotation_waits_until_all_workers_know_the_key_before_anything_changes() -> None:
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        assert states()[FIRST] == "active"

    rotate("HS256", wait=wait)
    assert 5 < waited[0] <= signing_keys.PUBLISHED_AFTER_SECONDS
    SigningKey.objects.update(created_at=timezone.now() - timedelta(seconds=30))
    rotate("HS256", wait=waited.append)
    assert waited[1] == 0


def test_the_old_key_verifies_until_its_last_refresh_token_expires(owner: User) -> None:
    token = issue_tokens(owner).refresh
    rotate_now()

    old = SigningKey.objects.get(kid=FIRST)
    assert old.retired_at is not None
    assert old.verify_until == old.retired_at + timedelta(days=7, seconds=60)
    assert verifies(token)
    SigningKey.objects.filter(kid=FIRST).update(verify_until=timezone.now())
    assert not verifies(token)


def test_retiring_now_revokes_every_other_key_and_all_tokens(api: ApiClient, owner: User) -> None:
    (waiting,) = [kid for kid, state in states().items() if state == "next"]
    pair = issue_tokens(owner)
    rotation = rotate_now(retire_now=True)

    assert rotation.active not in (waiting, FIRST)  # a thief of one key may have the next
    assert (states()[FIRST], states()[waiting]) == ("revoked", "revoked")
    assert rotation.tokens_ended == 2
    assert not verifies(pair.access)
    assert error_code(api.send("get", "/users/me", token=pair.access)) == "2003"
    assert use(api, pair.refresh) == 401
    assert not IssuedToken.objects.live().exists()
    assert api.send("get", "/users/me", token=issue_tokens(owner).access).status_code == 200


def test_each_step_is_audited() -> None:
    new = rotate_now("ES256").active
    rotate_now(retire_now=True)

    events = set(AuditEvent.objects.filter(type__startswith="signing_key").values_list("type", "subject"))
    assert {("signing_key.created", FIRST), ("signing_key.retiring", FIRST), ("signing_key.revoked", FIRST)} <= events
    assert {("signing_key.created", new), ("signing_key.active", new), ("signing_key.revoked", new)} <= events


def test_the_keyring_stays_the_same_object_as_long_as_the_rows_do() -> None:
    ring = keyring_cache.load()
    assert keyring_cache.load() is ring

    rotate("HS256", wait=lambda _: None)
    assert keyring_cache.load() is not ring


# A SECRET_KEY that changed.


def test_keys_that_cannot_be_decrypted_are_skipped_and_logged(
    settings: Settings, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    token = issue_tokens(owner).access
    settings.SECRET_KEY = ANOTHER_SECRET_KEY
    new = rotate_now(retire_now=False).active
    SigningKey.objects.filter(kid=FIRST).update(verify_until=timezone.now() + timedelta(days=1))
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        ring = load()

    assert ring.active.kid == new
    assert FIRST not in {key.kid for key in ring.verifying}
    lines = [record.getMessage() for record in caplog.records]
    assert f"signing key {FIRST} cannot be decrypted: SECRET_KEY_FALLBACKS lacks the old SECRET_KEY" in lines
    assert not verifies(token)


def test_if_no_key_can_be_decrypted_tokens_get_503(
    api: ApiClient, settings: Settings, owner: User, caplog: pytest.LogCaptureFixture
) -> None:
    token = issue_tokens(owner).access
    settings.SECRET_KEY, keyring_cache.ring = ANOTHER_SECRET_KEY, None
    with pytest.raises(ServiceUnavailable, match="No signing key can be read"):
        keyring_cache.load()

    for response in (api.send("get", "/users/me", token=token), api.get("/.well-known/jwks.json")):
        assert (response.status_code, error_code(response)) == (503, "5008")
        assert response["Retry-After"]
    assert sorted(states().values()) == ["active", "next"]  # no new key was made


def test_a_rotation_makes_a_key_if_none_can_be_decrypted(settings: Settings, owner: User) -> None:
    settings.SECRET_KEY = ANOTHER_SECRET_KEY
    new = rotate_now().active

    assert load().active.kid == new
    assert verifies(issue_tokens(owner).access)


def test_with_the_old_secret_key_as_a_fallback_all_keys_can_be_decrypted(settings: Settings, owner: User) -> None:
    token = issue_tokens(owner).access
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = ANOTHER_SECRET_KEY

    assert load().active.kid == FIRST
    assert verifies(token)


# The public keys.


def published(api: ApiClient) -> dict[str, dict[str, Any]]:
    """Return the published keys by id, after checking what they have in common (RFC 7517)."""
    response = api.get("/.well-known/jwks.json")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    assert set(response.json()) == {"keys"}
    keys: dict[str, dict[str, Any]] = {key["kid"]: key for key in response.json()["keys"]}
    assert len(keys) == len(response.json()["keys"])
    assert all(key["use"] == "sig" and "key_ops" not in key for key in keys.values())  # section 4.3: not both
    assert not any(PRIVATE_MEMBERS & set(key) for key in keys.values())
    return keys


def number_of_bytes(text: str) -> int:
    """Return the length of a value in base64url, which must have no padding (RFC 7515, section 2)."""
    assert "=" not in text
    return len(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_hmac_keys_are_never_published(api: ApiClient) -> None:
    rotate_now("HS512")

    assert published(api) == {}


@pytest.mark.parametrize(
    ("algorithm", "shape", "lengths"),
    [
        ("RS256", {"kty": "RSA", "alg": "RS256", "e": "AQAB"}, {"n": 256}),  # RFC 7518, section 6.3
        ("ES256", {"kty": "EC", "alg": "ES256", "crv": "P-256"}, {"x": 32, "y": 32}),  # RFC 7518, section 6.2
        ("EdDSA", {"kty": "OKP", "alg": "EdDSA", "crv": "Ed25519"}, {"x": 32}),  # RFC 8037, section 2
    ],
)
def test_a_published_key_verifies_the_tokens_of_its_algorithm(
    api: ApiClient, owner: User, algorithm: str, shape: dict[str, str], lengths: dict[str, int]
) -> None:
    active = rotate_now(algorithm).active
    token = issue_tokens(owner).access

    keys = published(api)
    key = keys[jwt.get_unverified_header(token)["kid"]]
    assert key["kid"] == active
    assert shape.items() <= key.items()
    assert {name: number_of_bytes(key[name]) for name in lengths} == lengths
    assert set(key) == {"kid", "use", *shape, *lengths}
    claims = jwt.decode(token, jwt.PyJWK(key), algorithms=[algorithm], audience="lucid-api", issuer="lucid-api-gateway")
    assert claims["user_id"] == str(owner.pk)


def test_the_next_key_is_published_before_it_signs_and_a_revoked_one_is_not(api: ApiClient) -> None:
    rotate_now("EdDSA")
    before = set(published(api))
    new = rotate_now("EdDSA").active
    assert new in before
    assert len(published(api)) == 3
    rotate_now("EdDSA", retire_now=True)

    assert not before & set(published(api))
    assert len(published(api)) == 2


def test_the_public_keys_need_no_login_and_may_be_cached_for_a_minute(api: ApiClient) -> None:
    response = api.get("/.well-known/jwks.json", headers={"Origin": "https://app.example.org"})

    assert response["Cache-Control"] == "public, max-age=60"
    assert response["Access-Control-Allow-Origin"] == "https://app.example.org"
    assert error_code(api.post("/.well-known/jwks.json")) == "4003"


def test_a_public_key_is_never_used_as_an_hmac_secret(api: ApiClient, owner: User) -> None:
    active = rotate_now("EdDSA").active
    raw = base64.urlsafe_b64decode(published(api)[active]["x"] + "=")
    claims = jwt.decode(issue_tokens(owner).access, options={"verify_signature": False})
    for secret in (raw, raw.hex().encode() + b"0"):
        forged = jwt.encode(claims, secret, algorithm="HS256", headers={"kid": active})
        assert error_code(api.send("get", "/users/me", token=forged)) == "2003"

    assert token_backend().decode(issue_tokens(owner).access)
