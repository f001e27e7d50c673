"""The life of a signing key: next, active, retiring, revoked.

A key is published before it signs, so that every worker knows the key of every token.
"""

import hashlib
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from django.conf import settings
from django.db import IntegrityError
from django.utils import timezone

from accounts.models import IssuedToken, SigningKey
from accounts.tokens.revocation.revoking import revoke
from lucid_gateway.audit.events import Changes, record
from lucid_gateway.kernel.secrets.encryption import CannotDecrypt, decrypt, encrypt

State = SigningKey.State
ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "ES256", "EdDSA")
RSA_BITS = 3072
# Workers read the keys every two seconds; even a slow worker has read a new key after this time.
PUBLISHED_AFTER_SECONDS = 6
# How long a key should sign. Operators rotate it; nothing happens by itself.
ROTATE_AFTER = timedelta(days=90)
# A worker that has not read the new key yet signs with the old one for at most this long.
LAST_SIGNATURES_SECONDS = 60


class RotationUnderway(Exception):
    """Another rotation of the signing keys is in progress."""


@dataclass(frozen=True)
class Rotation:
    """What a rotation did: the ids of the keys, and how many live tokens it ended."""

    active: str
    replaced: tuple[str, ...]
    tokens_ended: int


def bootstrap_kid(secret: str) -> str:
    """Return the id of the key made from JWT_SECRET_KEY; it does not reveal the secret."""
    return hashlib.sha256(b"kid " + secret.encode()).hexdigest()[:16]


def bootstrap() -> None:
    """Store the first key, made from JWT_SECRET_KEY, and the next one; parallel callers store one first key."""
    secret, algorithm = settings.ENV.JWT_SECRET_KEY, settings.ENV.JWT_ALGORITHM
    kid = bootstrap_kid(secret)
    now = timezone.now()
    try:
        SigningKey.objects.create(
            kid=kid, algorithm=algorithm, secret=encrypt(secret), state=State.ACTIVE, created_at=now, activated_at=now
        )
    except IntegrityError:
        return
    record(
        "signing_key.created", subject=kid, actor="JWT_SECRET_KEY", changes=moved(None, State.ACTIVE),
        algorithm=algorithm, state="active",
    )  # fmt: skip
    publish_next(algorithm)


def moved(before: str | None, after: str) -> Changes:
    """Return the change of a key's state for the audit log."""
    return {"state": [before and str(before), str(after)]}


def publish_next(algorithm: str) -> SigningKey:
    """Store and return a new key. Workers read it before it signs."""
    key = SigningKey.objects.create(
        kid=secrets.token_hex(8), algorithm=algorithm, secret=encrypt(new_secret(algorithm)), state=State.NEXT
    )
    record("signing_key.created", subject=key.kid, changes=moved(None, key.state), algorithm=algorithm, state="next")
    return key


def new_secret(algorithm: str) -> str:
    """Return a new secret for `key_material`: random text, or an RSA key as PEM."""
    if algorithm != "RS256":
        return secrets.token_urlsafe(64)
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def rotate(
    algorithm: str, *, retire_now: bool = False, why: str = "", wait: Callable[[float], None] = time.sleep
) -> Rotation:
    """Make the next key the active one; return what was done.

    The old key verifies until its last token has expired. With `retire_now`, every earlier key and every token is
    revoked at once, and the audit events keep `why`. `wait` sleeps for so many seconds. Raises RotationUnderway.
    """
    upcoming = prepared_key(algorithm, fresh=retire_now)
    wait(max(0.0, PUBLISHED_AFTER_SECONDS - (timezone.now() - upcoming.created_at).total_seconds()))
    replaced = retire_active()
    activate(upcoming, instead_of=replaced)
    ended = revoke_all_but(upcoming, why=why) if retire_now else 0
    publish_next(algorithm)
    return Rotation(upcoming.kid, replaced, ended)


def prepared_key(algorithm: str, *, fresh: bool) -> SigningKey:
    """Return the next key if it is for the algorithm and can be decrypted, else a new one; `fresh` means a new one."""
    waiting = SigningKey.objects.filter(state=State.NEXT, algorithm=algorithm).order_by("created_at")
    key = None if fresh else next((key for key in waiting if is_readable(key)), None)
    return key or publish_next(algorithm)


def is_readable(key: SigningKey) -> bool:
    """Return whether the key was encrypted under this SECRET_KEY or one of the fallbacks."""
    try:
        decrypt(key.secret)
    except CannotDecrypt:
        return False
    return True


def retire_active() -> tuple[str, ...]:
    """Retire the active key and return its id; of parallel rotations one succeeds, the others raise RotationUnderway.

    If this process ends before the next step, the key goes on signing.
    """
    now = timezone.now()
    last_token = timedelta(days=settings.ENV.JWT_REFRESH_TOKEN_EXPIRE_DAYS, seconds=LAST_SIGNATURES_SECONDS)
    kid = SigningKey.objects.filter(state=State.ACTIVE).values_list("kid", flat=True).first()
    if kid is None:
        return ()  # an earlier rotation was interrupted between its two steps; this one completes it
    active = SigningKey.objects.filter(kid=kid, state=State.ACTIVE)
    if not active.update(state=State.RETIRING, retired_at=now, verify_until=now + last_token):
        raise RotationUnderway()
    record("signing_key.retiring", subject=kid, changes=moved(State.ACTIVE, State.RETIRING))
    return (kid,)


def activate(key: SigningKey, *, instead_of: Collection[str]) -> None:
    """Make the key active; raise RotationUnderway if another key is active, or another rotation took or revoked it."""
    try:
        ours = SigningKey.objects.filter(kid=key.kid, state=State.NEXT).update(
            state=State.ACTIVE, activated_at=timezone.now()
        )
    except IntegrityError as error:
        raise RotationUnderway() from error
    if not ours:
        # Nothing may be active now: the key that was just retired becomes active again, unless another one is.
        with suppress(IntegrityError):
            SigningKey.objects.filter(kid__in=instead_of, state=State.RETIRING).update(
                state=State.ACTIVE, retired_at=None, verify_until=None
            )
        raise RotationUnderway()
    record("signing_key.active", subject=key.kid, changes=moved(State.NEXT, State.ACTIVE), algorithm=key.algorithm)


def revoke_all_but(key: SigningKey, *, why: str) -> int:
    """Revoke every other key and all live tokens; return how many tokens were live. The audit events keep `why`.

    Raises RotationUnderway if another rotation replaced the key meanwhile: the tokens are revoked even so, and the key
    of that rotation stays active.
    """
    now = timezone.now()
    given: dict[str, Any] = {"why": why} if why else {}
    others = SigningKey.objects.exclude(kid=key.kid).exclude(state__in=[State.REVOKED, State.ACTIVE])
    for kid, state in list(others.values_list("kid", "state")):
        other = SigningKey.objects.filter(kid=kid).exclude(state=State.ACTIVE)
        if other.update(state=State.REVOKED, revoked_at=now, verify_until=now):
            record("signing_key.revoked", subject=kid, changes=moved(state, State.REVOKED), **given)
    ended = revoke(IssuedToken.objects.exclude(kid=key.kid))
    record("token.revoked", reason="signing keys retired at once", tokens=ended, **given)
    if not SigningKey.objects.filter(kid=key.kid, state=State.ACTIVE).exists():
        raise RotationUnderway()
    return ended
