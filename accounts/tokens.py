"""Issuing, rotating and ending tokens. A login starts a family; each refresh replaces its refresh token.

Where a token was asked for is taken from the request's origin (`accounts.audit`).
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.conf import settings
from django.utils import timezone
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.exceptions import TokenBackendError, TokenBackendExpiredToken, TokenError

from accounts.audit import FAILURE, USER_AGENT_LENGTH, origin, record
from accounts.keyring import KeyringBackend, keyring, token_backend
from accounts.models import IssuedToken, User
from accounts.revocation import end_epoch, revoke
from lucid_gateway.errors import AccountLocked, RefreshTokenInvalid, TokenExpired, TokenInvalid


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
class TokenPair:
    """What a login or a refresh gives; `expires_in` is the access token's life in seconds."""

    access: str
    refresh: str
    expires_in: int


def issue_tokens(user: User, *, family: uuid.UUID | None = None, signed_in_at: datetime | None = None) -> TokenPair:
    """Sign and record an access and a refresh token; without `family` they start a new one, signed in now."""
    family, signed_in_at = family or uuid.uuid4(), signed_in_at or timezone.now()
    access, refresh = AccessToken(), RefreshToken()
    kid = keyring().active.kid
    for token in (access, refresh):
        token.payload |= {"user_id": str(user.pk), "sub": str(user.pk), "role": user.role, "family": str(family)}
        token.payload["epoch"] = user.token_epoch
    pair = TokenPair(str(access), str(refresh), settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60)
    rows = [record_of(token, user, family) for token in (access, refresh)]
    for row in rows:
        row.kid, row.signed_in_at = kid, signed_in_at
    IssuedToken.objects.bulk_create(rows)
    return pair


def record_of(token: AccessToken | RefreshToken, user: User, family: uuid.UUID) -> IssuedToken:
    """Return the row for a token."""
    at = origin.get()
    return IssuedToken(
        jti=token["jti"],
        family=family,
        user=user,
        kind=token.token_type,
        issued_at=datetime.fromtimestamp(token["iat"], tz=UTC),
        expires_at=datetime.fromtimestamp(token["exp"], tz=UTC),
        address=at.address,
        user_agent=(at.user_agent or at.actor)[:USER_AGENT_LENGTH],
    )


def refresh_tokens(text: str) -> tuple[User, TokenPair]:
    """Use a refresh token up and return its user with a new pair; raise RefreshTokenInvalid or AccountLocked.

    One conditional update decides among parallel uses. A second use means a stolen token: the family ends.
    """
    claims = read_refresh_token(text)
    user = User.objects.welcome(pk=claims["user_id"])
    if user is None:
        raise RefreshTokenInvalid()
    if user.is_locked:
        raise AccountLocked()
    if claims["epoch"] != user.token_epoch:
        raise RefreshTokenInvalid()
    row = IssuedToken.objects.filter(jti=claims["jti"], kind=IssuedToken.Kind.REFRESH)
    if row.filter(used_at=None, revoked_at=None).update(used_at=timezone.now()) != 1:
        refuse_reuse(user, claims)
    signed_in_at = row.values_list("signed_in_at", flat=True).first()
    pair = issue_tokens(user, family=uuid.UUID(claims["family"]), signed_in_at=signed_in_at)
    if not row.filter(revoked_at=None).exists():
        # The family was ended while the new pair was written, by a reuse or a logout: the pair ends with it.
        # The answer is that of the one use that counts, all the same.
        end_family(claims["family"])
    return user, pair


def refuse_reuse(user: User, claims: dict[str, Any]) -> NoReturn:
    """End the family of a refresh token that was used before, or revoked; raise RefreshTokenInvalid."""
    ended = end_family(claims["family"])
    reused = IssuedToken.objects.filter(jti=claims["jti"]).exclude(used_at=None).exists()
    kind = "token.reused" if reused else "token.refused"
    record(kind, subject=user, outcome=FAILURE, family=claims["family"], tokens=ended)
    raise RefreshTokenInvalid()


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
        if type(token["epoch"]) is not int:
            raise RefreshTokenInvalid()
    except (TokenError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RefreshTokenInvalid() from error
    return dict(token.payload)


def end_family(family: str | uuid.UUID) -> int:
    """Revoke all tokens of a login; return how many were live."""
    return revoke(IssuedToken.objects.filter(family=family))


def end_all(user: User) -> int:
    """End all tokens of a user, those being written at this moment included; return how many were live."""
    end_epoch(user)
    return revoke(IssuedToken.objects.filter(user=user))
