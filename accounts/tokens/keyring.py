"""The keys that sign and verify tokens, and the simplejwt backend that picks them by `kid`."""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import jwt
from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from accounts.models import SigningKey as StoredKey
from accounts.tokens.key_material import KeyMaterial, key_material
from accounts.tokens.signing_keys import bootstrap
from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt
from lucid_gateway.kernel.secrets.rsa_keys import UnfitKey
from lucid_gateway.policy.claims import AUDIENCE, CLOCK_SKEW_SECONDS, FOREIGN_HEADERS, ISSUER, REQUIRED
from lucid_gateway.policy.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

LAST_SECOND = int(datetime.max.replace(tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class SigningKey:
    """A key with its id and the one algorithm that it is for."""

    kid: str
    algorithm: str
    material: KeyMaterial


@dataclass(frozen=True, eq=False)
class Keyring:
    """The key that signs, and all that may verify."""

    active: SigningKey
    verifying: tuple[SigningKey, ...]

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the public keys as JSON Web Keys (RFC 7517): none of a symmetric algorithm."""
        return [key.material.public | {"kid": key.kid, "use": "sig"} for key in self.verifying if key.material.public]

    def key_named_by(self, header: dict[str, Any]) -> SigningKey:
        """Return the key that a token's header names; raise InvalidTokenError for one that we would not have made."""
        key = next((key for key in self.verifying if key.kid == header.get("kid")), None)
        if key is None or header.get("alg") != key.algorithm or FOREIGN_HEADERS & header.keys():
            raise UnknownKey("header is not ours")
        return key


class UnknownKey(jwt.InvalidTokenError):
    """A token whose header names no key of ours, or claims what none of our tokens says."""


class Forged(TokenBackendError):
    """A token that is not ours; `reason` is a name of `policy.reasons`."""

    def __init__(self, reason: str) -> None:
        super().__init__("Token invalid")
        self.reason = reason


class KeyringCache:
    """This process's keyring, read from the database on first use and, in a worker, again and again."""

    def __init__(self) -> None:
        self.ring: Keyring | None = None
        self.rows: list[tuple[str, str]] = []
        self.stored: list[StoredKey] = []
        self.read_at: float | None = None

    def load(self) -> Keyring:
        """Read the keys; keep the keyring as it is if they have not changed. Raise ServiceUnavailable without any."""
        keys = list(StoredKey.objects.usable())
        if not keys:
            bootstrap()
            keys = list(StoredKey.objects.usable())
        self.read_at = time.monotonic()
        return self.take_over(keys)

    def state(self) -> list[StoredKey]:
        """Return the keys that were read last, encrypted."""
        return self.stored

    def take_over(self, keys: list[StoredKey]) -> Keyring:
        """Hold these keys."""
        self.stored = keys
        rows = sorted((key.kid, key.state) for key in keys)
        if self.ring is None or rows != self.rows:
            # Should none of them sign, those that signed before must not go on: they may have been revoked.
            self.ring = None
            self.ring, self.rows = ring_of(keys), rows
        return self.ring


keyring_cache = KeyringCache()


def keyring() -> Keyring:
    """Return the keyring; the first call reads it from the database."""
    return keyring_cache.ring or keyring_cache.load()


def ring_of(stored: Iterable[StoredKey]) -> Keyring:
    """Return the keyring of the rows; raise ServiceUnavailable if none of them can sign."""
    readable = [(row, key) for row in stored if (key := readable_key(row)) is not None]
    # A rotation that was cut short leaves no active key for a moment: then the last one goes on signing.
    signers = [row for row, _ in readable if row.state != StoredKey.State.NEXT and row.activated_at is not None]
    signers.sort(key=lambda row: (row.state == StoredKey.State.ACTIVE, row.activated_at), reverse=True)
    if not signers:
        raise ServiceUnavailable("No signing key can be read")
    keys = {row.kid: key for row, key in readable}
    return Keyring(keys[signers[0].kid], tuple(keys.values()))


def readable_key(row: StoredKey) -> SigningKey | None:
    """Return the key of a row; None, and a line in the log, if it cannot be decrypted or is too weak to be trusted."""
    try:
        return SigningKey(row.kid, row.algorithm, key_material(decrypt(row.secret), row.algorithm))
    except CannotDecrypt:
        logger.error("signing key %s cannot be decrypted: SECRET_KEY_FALLBACKS lacks the old SECRET_KEY", row.kid)  # noqa: TRY400
    except UnfitKey as error:
        logger.error("signing key %s is not used: it %s; rotate the signing keys", row.kid, error)  # noqa: TRY400
    return None


class KeyringBackend(TokenBackend):
    """Signs with the active key, verifies with the one that the token names; algorithms cannot be confused."""

    def encode(self, payload: dict[str, Any]) -> str:
        """Return the signed token, with `kid` in its header and `iss` and `aud` among its claims."""
        key = keyring().active
        claims = payload | {"iss": self.issuer, "aud": self.audience}
        return jwt.encode(claims, key.material.signing, algorithm=key.algorithm, headers={"kid": key.kid})

    def decode(self, token: Any, verify: bool = True) -> dict[str, Any]:
        """Return the claims; raise TokenBackendExpiredToken or TokenBackendError."""
        try:
            key = key_for(keyring(), token.partition(".")[0])
            claims = jwt.decode(
                token, key.material.verifying, algorithms=[key.algorithm], audience=self.audience, issuer=self.issuer,
                options={"require": list(REQUIRED), "strict_aud": True, "verify_iat": False},
            )  # fmt: skip
        except jwt.ExpiredSignatureError as error:
            raise TokenBackendExpiredToken("Token expired") from error
        except UnknownKey as error:
            raise Forged("unknown_kid") from error
        except jwt.InvalidSignatureError as error:
            raise Forged("signature_invalid") from error
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise Forged("claims_invalid") from error
        if not all(is_time(claims[name]) for name in ("exp", "iat")):
            raise Forged("claims_invalid")
        if claims["iat"] > time.time() + CLOCK_SKEW_SECONDS:
            raise Forged("claims_invalid")
        return claims


def is_time(value: object) -> bool:
    """Return whether the claim is a whole number of seconds since the epoch that a calendar can hold."""
    return type(value) is int and 0 <= value <= LAST_SECOND


@lru_cache(maxsize=64)
def key_for(ring: Keyring, header_text: str) -> SigningKey:
    """Return the key that a token's encoded header names; raise InvalidTokenError for one that is not ours.

    All tokens of a key have the same header, so that it is looked into once.
    """
    return ring.key_named_by(jwt.get_unverified_header(f"{header_text}.e30.AA"))


@cache
def token_backend() -> KeyringBackend:
    """Return the backend that all of the gateway's tokens use."""
    return KeyringBackend(
        settings.ENV.JWT_ALGORITHM,
        settings.ENV.JWT_SECRET_KEY,
        audience=AUDIENCE,
        issuer=ISSUER,
    )
