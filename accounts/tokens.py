"""Issuing, rotating and ending tokens. A login starts a family; each refresh replaces its refresh token."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils import timezone
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken, TokenError

from accounts.keyring import KeyringBackend, token_backend
from accounts.models import IssuedToken, User
from accounts.revocation import revoke
from lucid_gateway.errors import AccountLocked, RefreshTokenInvalid, TokenExpired, TokenInvalid

USER_AGENT_LENGTH = 200


class AccessToken(simplejwt.AccessToken):
    """Claims: user_id, sub, role, family, type `access`, jti, iat, exp, iss, aud."""

    def get_token_backend(self) -> KeyringBackend:
        """Return the backend that knows the keyring."""
        return token_backend()


class RefreshToken(simplejwt.RefreshToken):
    """The same claims with type `refresh`; good for nothing but POST /auth/refresh."""

    def get_token_backend(self) -> KeyringBackend:
        """Return the backend that knows the keyring."""
        return token_backend()


@dataclass(frozen=True)
class Device:
    """Where a token was asked for."""

    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True)
class TokenPair:
    """What a login or a refresh gives; `expires_in` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int


def issue_tokens(user: User, *, device: Device, family: uuid.UUID | None = None) -> TokenPair:
    """Sign and record an access and a refresh token; without `family` they start a new one."""
    family = family or uuid.uuid4()
    access, refresh = AccessToken(), RefreshToken()
    for token in (access, refresh):
        token.payload |= {"user_id": str(user.pk), "sub": str(user.pk), "role": user.role, "family": str(family)}
    IssuedToken.objects.bulk_create([record(token, user, family, device) for token in (access, refresh)])
    return TokenPair(str(access), str(refresh), settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60)


def record(token: AccessToken | RefreshToken, user: User, family: uuid.UUID, device: Device) -> IssuedToken:
    """Return the row for a token."""
    return IssuedToken(
        jti=token["jti"],
        family=family,
        user=user,
        kind=token.token_type,
        issued_at=datetime.fromtimestamp(token["iat"], tz=timezone.get_default_timezone()),
        expires_at=datetime.fromtimestamp(token["exp"], tz=timezone.get_default_timezone()),
        address=device.address,
        user_agent=device.user_agent[:USER_AGENT_LENGTH],
    )


def refresh_tokens(text: str, *, device: Device) -> tuple[User, TokenPair]:
    """Use a refresh token up and return its user with a new pair; raise RefreshTokenInvalid or AccountLocked.

    One conditional update decides among parallel uses. A second use means a stolen token: the family ends.
    """
    claims = read_refresh_token(text)
    user = User.objects.filter(pk=claims["user_id"], is_active=True).first()
    if user is None:
        raise RefreshTokenInvalid()
    if user.is_locked:
        raise AccountLocked()
    fresh = IssuedToken.objects.filter(jti=claims["jti"], kind=IssuedToken.Kind.REFRESH, used_at=None, revoked_at=None)
    if fresh.update(used_at=timezone.now()) != 1:
        end_family(claims["family"])
        raise RefreshTokenInvalid()
    pair = issue_tokens(user, device=device, family=uuid.UUID(claims["family"]))
    if not IssuedToken.objects.filter(jti=claims["jti"], revoked_at=None).exists():
        # The family was ended while the new pair was written, by a reuse or a logout: the pair ends with it.
        # The answer is that of the one use that counts, all the same.
        end_family(claims["family"])
    return user, pair


def read_access_token(text: str) -> dict[str, Any]:
    """Return the claims of an access token of ours; raise TokenExpired or TokenInvalid. On the hot path: no objects."""
    try:
        claims = token_backend().decode(text)
    except TokenBackendExpiredToken as error:
        raise TokenExpired() from error
    except TokenBackendError as error:
        raise TokenInvalid() from error
    if claims["type"] != AccessToken.token_type:
        raise TokenInvalid()
    return claims


def read_refresh_token(text: str) -> dict[str, Any]:
    """Return the claims of a refresh token of ours; raise RefreshTokenInvalid."""
    try:
        token = RefreshToken(text)  # type: ignore[arg-type]  # simplejwt annotates the text as Token
        for name in ("user_id", "family"):
            uuid.UUID(token[name])
    except (TokenError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RefreshTokenInvalid() from error
    return dict(token.payload)


def end_family(family: str | uuid.UUID) -> int:
    """Revoke all tokens of a login; return how many were live."""
    return revoke(IssuedToken.objects.filter(family=family))


def end_all(user: User) -> int:
    """Revoke all tokens of a user; return how many were live."""
    return revoke(IssuedToken.objects.filter(user=user))
