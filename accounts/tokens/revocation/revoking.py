"""Revoking: in the database first, by the database's clock, then in Redis.

A write may have been applied although it raised (MongoDB without a majority, a time-out). So each call publishes
everything that it finds revoked, not only what it revoked itself. After a database error the database decides on those
whom it concerns, or on everybody if the call does not say whom.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import Error as DatabaseError
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import ApiKey, IssuedTokenQuerySet, User
from accounts.tokens.revocation.cache import suspect_all
from accounts.tokens.revocation.doubts import doubts
from accounts.tokens.revocation.gates import late_revocations
from accounts.tokens.revocation.publishing import ended_epochs, locked, revoked_keys, revoked_tokens, try_to_publish
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys


@contextmanager
def doubting_after_errors(whose: str | UUID | None) -> Iterator[None]:
    """After a database error, let the database decide: the write may have been applied."""
    try:
        yield
    except DatabaseError:
        if whose is None:
            suspect_all()
        else:
            doubts.add(str(whose))
        raise


def revoke(tokens: IssuedTokenQuerySet, *, whose: str | UUID | None = None) -> int:
    """Revoke the tokens; return how many were live. `whose` is the id of their family or user, if they have one.

    One update decides: a token that is written meanwhile is either revoked with the others, or its writer sees that
    they are revoked. Tokens that have expired by this gateway's clock are revoked, too, as another clock may be behind.
    """
    past = timezone.now() - MAX_CLOCK_SKEW
    with doubting_after_errors(whose):
        ended = tokens.live().update(revoked_at=Now())
        tokens.live(past).update(revoked_at=Now())
        try_to_publish(revoked_tokens(tokens.to_blacklist(past)))
    return ended


def revoke_api_keys(api_keys: QuerySet[ApiKey], *, whose: str | UUID) -> int:
    """Revoke the API keys; return how many were not revoked before. `whose` is the id of the key or its user."""
    with doubting_after_errors(whose):
        ids = list(api_keys.values_list("key_id", flat=True))
        chosen = ApiKey.objects.filter(key_id__in=ids)
        ended = chosen.filter(revoked_at=None).update(revoked_at=Now())
        try_to_publish(revoked_keys(chosen))
    return ended


def end_epoch(user: User, **changes: Any) -> None:
    """End every token that was issued to the user until now, recorded or not, and change the row, in one update."""
    with doubting_after_errors(user.pk):
        User.objects.filter(pk=user.pk).update(token_epoch=F("token_epoch") + 1, token_epoch_at=Now(), **changes)
        user.refresh_from_db(fields=["token_epoch", "token_epoch_at", *changes])
        try_to_publish(ended_epochs([(user.pk, user.token_epoch, user.token_epoch_at)]))


def lock(user: User, *, until: datetime, **changes: Any) -> None:
    """Lock the account until then, end its epoch and change the row, in one update."""
    end_epoch(user, locked_until=until, **changes)
    publish_lock(user)


def publish_lock(user: User) -> None:
    """Write to Redis that the account is locked until `user.locked_until`."""
    try_to_publish(locked([(user.pk, user.locked_until)]))


def publish_unlock(user: User) -> None:
    """Remove the lock from Redis. One that stays there is harmless: a lock is always checked in the database."""
    late_revocations.forget(keys.locked(user.pk))
    with suppress(RedisUnavailable):
        redis_call(keys.locked(user.pk), lambda redis: redis.delete(keys.locked(user.pk)))
    # The account may have been locked again meanwhile, and that lock may have been written before the delete.
    now = User.objects.filter(pk=user.pk).first()
    if now is not None and now.is_locked:
        publish_lock(now)
