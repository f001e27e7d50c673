"""The keys that sign and verify tokens, and the simplejwt backend that picks them by `kid`."""

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import jwt
from django.conf import settings
from rest_framework_simplejwt.backends import TokenBackend
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken

from accounts.key_material import KeyMaterial, key_material

# Header fields that point at keys or change what is signed: a token of ours has none (RFC 7515, section 4.1).
FOREIGN_HEADERS = frozenset({"jwk", "jku", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip"})
CLOCK_SKEW_SECONDS = 60
LAST_SECOND = int(datetime.max.replace(tzinfo=UTC).timestamp())
REQUIRED_CLAIMS = ["exp", "iat", "iss", "aud", "jti", "type", "user_id", "role"]


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

    def key_named_by(self, header: dict[str, Any]) -> SigningKey:
        """Return the key that a token's header names; raise InvalidTokenError for one that we would not have made."""
        key = next((key for key in self.verifying if key.kid == header.get("kid")), None)
        if key is None or header.get("alg") != key.algorithm or FOREIGN_HEADERS & header.keys():
            raise jwt.InvalidTokenError("header is not ours")
        return key


@cache
def keyring() -> Keyring:
    """Return the keyring of JWT_SECRET_KEY: one key, whose id tells nothing of the secret."""
    secret: str = settings.ENV.JWT_SECRET_KEY
    kid = hashlib.sha256(b"kid " + secret.encode()).hexdigest()[:16]
    algorithm: str = settings.ENV.JWT_ALGORITHM
    key = SigningKey(kid, algorithm, key_material(secret, algorithm))
    return Keyring(key, (key,))


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
                options={"require": REQUIRED_CLAIMS, "strict_aud": True, "verify_iat": False},
            )  # fmt: skip
        except jwt.ExpiredSignatureError as error:
            raise TokenBackendExpiredToken("Token expired") from error
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError) as error:
            raise TokenBackendError("Token invalid") from error
        if not all(is_time(claims[name]) for name in ("exp", "iat")):
            raise TokenBackendError("Token has times that are none")
        if claims["iat"] > time.time() + CLOCK_SKEW_SECONDS:
            raise TokenBackendError("Token is from the future")
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
        audience=settings.JWT_AUDIENCE,
        issuer=settings.JWT_ISSUER,
    )
