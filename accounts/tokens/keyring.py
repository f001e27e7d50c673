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
from lucid_gateway.kernel.secrets.rsa_keys import UnusableKey
from lucid_gateway.policy.claims import AUDIENCE, CLOCK_SKEW_SECONDS, FOREIGN_HEADERS, ISSUER, REQUIRED
from lucid_gateway.policy.errors import ServiceUnavailable

logger = logging.getLogger(__name__)

LAST_SECOND = int(datetime.max.replace(tzinfo=UTC).timestamp())


@dataclass(frozen=True)
class KeyringEntry:
    """A key with its id and its one algorithm."""

    kid: str
    algorithm: str
    material: KeyMaterial


@dataclass(frozen=True, eq=False)
class Keyring:
    """The key that signs, and all keys that verify."""

    active: KeyringEntry
    verifying: tuple[KeyringEntry, ...]

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the public keys as JSON Web Keys (RFC 7517); a symmetric algorithm has none."""
        return [key.material.public | {"kid": key.kid, "use": "sig"} for key in self.verifying if key.material.public]

    def key_named_by(self, header: dict[str, Any]) -> KeyringEntry:
        """Return the key that a token's header names; raise UnknownKey if we would not write such a header."""
        key = next((key for key in self.verifying if key.kid == header.get("kid")), None)
        if key is None or header.get("alg") != key.algorithm or FOREIGN_HEADERS & header.keys():
            raise UnknownKey("header is not ours")
        return key


class UnknownKey(jwt.InvalidTokenError):
    """The header of a token names no key of ours, or has a field that our tokens never have."""


class Forged(TokenBackendError):
    """A token that this gateway did not issue; `reason` is a name from `policy.reasons`."""

    def __init__(self, reason: str) -> None:
        super().__init__("Token invalid")
        self.reason = reason


class KeyringCache:
    """The keyring of this process, read from the database on first use; a worker keeps it up to date."""

    def __init__(self) -> None:
        self.ring: Keyring | None = None
        self.rows: list[tuple[str, str]] = []
        self.stored: list[StoredKey] = []
        self.read_at: float | None = None

    def load(self) -> Keyring:
        """Read the keys and return the keyring, the same object if they have not changed. Raises ServiceUnavailable."""
        keys = list(StoredKey.objects.usable())
        if not keys:
            bootstrap()
            keys = list(StoredKey.objects.usable())
        self.read_at = time.monotonic()
        return self.take_over(keys)

    def state(self) -> list[StoredKey]:
        """Return the keys that were read last, encrypted, for the next worker."""
        return self.stored

    def take_over(self, keys: list[StoredKey]) -> Keyring:
        """Use these keys; raise ServiceUnavailable if none of them can sign."""
        self.stored = keys
        rows = sorted((key.kid, key.state) for key in keys)
        if self.ring is None or rows != self.rows:
            # If none of them can sign, the earlier keys must not sign either: they may have been revoked.
            self.ring = None
            self.ring, self.rows = ring_of(keys), rows
        return self.ring


keyring_cache = KeyringCache()


def keyring() -> Keyring:
    """Return the keyring; the first call reads it from the database."""
    return keyring_cache.ring or keyring_cache.load()


def ring_of(stored: Iterable[StoredKey]) -> Keyring:
    """Return the keyring made from the rows; raise ServiceUnavailable if none of them can sign."""
    readable = [(row, key) for row in stored if (key := readable_key(row)) is not None]
    # An interrupted rotation leaves no active key: then the last active one goes on signing.
    signers = [row for row, _ in readable if row.state != StoredKey.State.NEXT and row.activated_at is not None]
    signers.sort(key=lambda row: (row.state == StoredKey.State.ACTIVE, row.activated_at), reverse=True)
    if not signers:
        raise ServiceUnavailable("No signing key can be read")
    keys = {row.kid: key for row, key in readable}
    return Keyring(keys[signers[0].kid], tuple(keys.values()))


def readable_key(row: StoredKey) -> KeyringEntry | None:
    """Return the key of a row; if it cannot be decrypted or is too weak, log an error and return None."""
    try:
        return KeyringEntry(row.kid, row.algorithm, key_material(decrypt(row.secret), row.algorithm))
    except CannotDecrypt:
        logger.error("signing key %s cannot be decrypted: SECRET_KEY_FALLBACKS lacks the old SECRET_KEY", row.kid)  # noqa: TRY400
    except UnusableKey as error:
        logger.error("signing key %s is not used: it %s; rotate the signing keys", row.kid, error)  # noqa: TRY400
    return None


class KeyringBackend(TokenBackend):
    """Signs with the active key, and verifies with the key that the token names and with the algorithm of that key."""

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
    """Return whether the claim is a whole number of seconds from 1970 to the end of the year 9999."""
    return type(value) is int and 0 <= value <= LAST_SECOND


@lru_cache(maxsize=64)
def key_for(ring: Keyring, header_text: str) -> KeyringEntry:
    """Return the key that an encoded header names; raise InvalidTokenError if the header is not ours.

    All tokens of a key have the same header, so that each header is decoded once.
    """
    return ring.key_named_by(jwt.get_unverified_header(f"{header_text}.e30.AA"))


@cache
def token_backend() -> KeyringBackend:
    """Return the backend of all tokens."""
    return KeyringBackend(
        settings.ENV.JWT_ALGORITHM,
        settings.ENV.JWT_SECRET_KEY,
        audience=AUDIENCE,
        issuer=ISSUER,
    )
