"""Issuing, refreshing and ending tokens. A login starts a family; each refresh replaces its refresh token.

The record of the request says which client a token is issued to.
"""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from django.conf import settings
from django.db import IntegrityError
from django.db.models.functions import Now
from django.utils import timezone
from rest_framework_simplejwt import tokens as simplejwt
from rest_framework_simplejwt.exceptions import TokenBackendExpiredToken, TokenError

from accounts.enrolment import must_enrol
from accounts.models import IssuedToken, IssuedTokenQuerySet, User
from accounts.tokens.keyring import Forged, KeyringBackend, keyring, token_backend
from accounts.tokens.locked import account_locked
from accounts.tokens.revocation.revoking import end_epoch, revoke
from lucid_gateway.audit.events import FAILURE, USER_AGENT_LENGTH, record
from lucid_gateway.kernel.clock import database_now
from lucid_gateway.kernel.record import current_record
from lucid_gateway.policy.errors import RefreshTokenInvalid, TokenExpired, TokenInvalid


class AccessToken(simplejwt.AccessToken):
    """Claims: user_id, sub, role, family, type `access`, jti, iat, exp, iss, aud, and `must_enrol` (`Caller`)."""

    def get_token_backend(self) -> KeyringBackend:
        """Return the backend that uses the keyring."""
        return token_backend()


class RefreshToken(simplejwt.RefreshToken):
    """The same claims with type `refresh`; accepted by POST /auth/refresh only."""

    def get_token_backend(self) -> KeyringBackend:
        """Return the backend that uses the keyring."""
        return token_backend()


# A client that got no answer gives up after 10 to 30 seconds, and tries again.
GRACE = timedelta(seconds=30)
# No client notices sooner that its answer was lost: an earlier second use is a parallel one.
PARALLEL = timedelta(seconds=1)


class AlreadyUsed(Exception):
    """The refresh token was already traded for a pair, or revoked."""


@dataclass(frozen=True)
class TokenPair:
    """The tokens of a login or a refresh; `expires_in` is the life of the access token in seconds."""

    access: str
    refresh: str
    expires_in: int


def issue_tokens(
    user: User,
    *,
    family: uuid.UUID | None = None,
    signed_in_at: datetime | None = None,
    predecessor: str | None = None,
) -> TokenPair:
    """Sign and record an access and a refresh token; without `family` they start a new family, signed in now.

    `predecessor` is the id of the refresh token that is traded for them. Raises IntegrityError if it has a pair.
    """
    family, signed_in_at = family or uuid.uuid4(), signed_in_at or timezone.now()
    access, refresh = AccessToken(), RefreshToken()
    kid = keyring().active.kid
    for token in (access, refresh):
        token.payload |= {"user_id": str(user.pk), "sub": str(user.pk), "role": user.role, "family": str(family)}
        token.payload["epoch"] = user.token_epoch
        if must_enrol(user):
            token.payload["must_enrol"] = True
    pair = TokenPair(str(access), str(refresh), settings.ENV.JWT_ACCESS_TOKEN_EXPIRE_MINUTES * 60)
    # The refresh token first: MongoDB writes in this order, and stops at the first row that it refuses.
    rows = [record_of(token, user, family) for token in (refresh, access)]
    for row in rows:
        row.kid, row.signed_in_at, row.predecessor = kid, signed_in_at, predecessor
    IssuedToken.objects.bulk_create(rows)
    return pair


def record_of(token: AccessToken | RefreshToken, user: User, family: uuid.UUID) -> IssuedToken:
    """Return the row for a token."""
    address, user_agent = client()
    return IssuedToken(
        jti=token["jti"],
        family=family,
        user=user,
        kind=token.token_type,
        issued_at=datetime.fromtimestamp(token["iat"], tz=UTC),
        expires_at=datetime.fromtimestamp(token["exp"], tz=UTC),
        address=address,
        user_agent=user_agent,
    )


def client() -> tuple[str, str]:
    """Return the address and the user agent of the current request, or the name of the current command."""
    at = current_record()
    return at.client_address, (at.user_agent or at.actor)[:USER_AGENT_LENGTH]


def refresh_tokens(text: str) -> tuple[User, TokenPair]:
    """Trade a refresh token for a new pair; return its user and the pair.

    A second use means that two clients have the token: the family ends. Raises RefreshTokenInvalid or AccountLocked.
    """
    claims = read_refresh_token(text)
    user = User.objects.active_user(pk=claims["user_id"])
    if user is None:
        raise RefreshTokenInvalid()
    if user.is_locked:
        raise account_locked(user)
    if claims["epoch"] != user.token_epoch:
        raise RefreshTokenInvalid()
    token = IssuedToken.objects.filter(user=user, jti=claims["jti"], kind=IssuedToken.Kind.REFRESH).first()
    try:
        if token is None or token.revoked_at is not None:
            raise AlreadyUsed()
        pair = trade(token, user) if token.used_at is None else replace_lost(token, user)
    except AlreadyUsed:
        end_reused_family(user, claims)
    return user, pair


def trade(token: IssuedToken, user: User) -> TokenPair:
    """Record and return the one pair that the refresh token is traded for; raise AlreadyUsed.

    `used_at` is written last: until then no client has the pair, and after a failed write the next try withdraws what
    was written. Of parallel uses, the unique predecessor lets one at a time insert a pair, and the update of `used_at`
    lets one return it.
    """
    withdraw(token)
    try:
        pair = issue_tokens(user, family=token.family, signed_in_at=token.signed_in_at, predecessor=token.jti)
    except IntegrityError as error:
        raise AlreadyUsed() from error
    row = IssuedToken.objects.filter(user_id=token.user_id, jti=token.jti)
    if not row.filter(revoked_at=None).exists():
        # A reuse or a logout ended the family before the new pair was written, so the pair ends, too. The client gets
        # it even so, unless another use was the first.
        end_family(token.family)
    if not row.filter(used_at=None).update(used_at=Now()):
        raise AlreadyUsed()
    return pair


def withdraw(token: IssuedToken) -> None:
    """Revoke the pair that an earlier try left behind, and make room for a new one."""
    if left_behind := list(IssuedToken.objects.given_for(token.jti)):
        rows = by_id(left_behind)
        revoke(rows, whose=token.family)
        rows.update(predecessor=None)


def replace_lost(used: IssuedToken, user: User) -> TokenPair:
    """Replace the pair that a used refresh token was traded for, as the answer with that pair may have been lost.

    It may have been lost if the same client comes again within GRACE and the refresh token of the pair was never used.
    The replacement uses that token up, so that there is no second replacement. Returns the new pair and revokes the old
    one; raises AlreadyUsed.
    """
    given = list(IssuedToken.objects.given_for(used.jti))
    lost = next((token for token in given if token.kind == IssuedToken.Kind.REFRESH), None)
    since = database_now() - (used.used_at or used.issued_at)
    if lost is None or lost.used_at or lost.revoked_at or not PARALLEL <= since <= GRACE or not is_same_client(lost):
        raise AlreadyUsed()
    pair = trade(lost, user)
    revoke(by_id(given), whose=used.family)
    return pair


def by_id(tokens: list[IssuedToken]) -> IssuedTokenQuerySet:
    """Return exactly these rows, even if another use of the refresh token changes its pair meanwhile."""
    return IssuedTokenQuerySet(IssuedToken).filter(jti__in=[token.jti for token in tokens])


def is_same_client(token: IssuedToken) -> bool:
    """Return whether the token was issued to the address and the user agent of the current request."""
    return (token.address, token.user_agent) == client()


def end_reused_family(user: User, claims: dict[str, Any]) -> NoReturn:
    """End the family of a refresh token that was already used or revoked; raise RefreshTokenInvalid."""
    ended = end_family(claims["family"])
    used = IssuedToken.objects.filter(jti=claims["jti"]).exclude(used_at=None)
    reused = used.exists() or IssuedToken.objects.given_for(claims["jti"]).exists()
    kind = "token.reused" if reused else "token.refused"
    record(kind, subject=user, outcome=FAILURE, family=claims["family"], tokens=ended)
    raise RefreshTokenInvalid()


def read_access_token(text: str) -> dict[str, Any]:
    """Return the claims of an access token; raise TokenExpired or TokenInvalid. It is on the hot path: no objects."""
    try:
        claims = token_backend().decode(text)
    except TokenBackendExpiredToken as error:
        raise TokenExpired() from error
    except Forged as error:
        raise TokenInvalid(reason=error.reason) from error
    if claims["type"] != AccessToken.token_type:
        raise TokenInvalid(reason="not_an_access_token")
    return claims


def read_refresh_token(text: str) -> dict[str, Any]:
    """Return the claims of a refresh token; raise RefreshTokenInvalid."""
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
    return revoke(IssuedToken.objects.filter(family=family), whose=family)


def end_all(user: User) -> int:
    """End all tokens of a user, even those that are being written now; return how many were live."""
    end_epoch(user)
    return revoke(IssuedToken.objects.filter(user=user), whose=user.pk)
