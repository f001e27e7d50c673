"""Ending what was issued: in the database first, by its own clock, then in Redis.

A write may have been applied although it raised (a MongoDB without a majority, a time-out). So each call publishes
all that it finds revoked, not only what it revoked itself, and after an error the copy is not believed.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

from django.db import Error as DatabaseError
from django.db.models import F, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from accounts.models import ApiKey, IssuedTokenQuerySet, User
from accounts.tokens.revocation.cache import revocation_cache
from accounts.tokens.revocation.gates import late_revocations
from accounts.tokens.revocation.publishing import ended_epochs, locked, revoked_keys, revoked_tokens, try_to_publish
from lucid_gateway.kernel.clock import MAX_CLOCK_SKEW
from lucid_gateway.kernel.redis.access import RedisUnavailable, redis_call
from lucid_gateway.policy import keys


@contextmanager
def suspecting_after_errors() -> Iterator[None]:
    """Doubt the copy if the database raises: nobody knows whether it did what it was asked."""
    try:
        yield
    except DatabaseError:
        revocation_cache.suspect()
        raise


def revoke(tokens: IssuedTokenQuerySet) -> int:
    """Revoke the tokens; return how many were live.

    One update decides, so that a token written beside it is either among those revoked or can tell that they were.
    What has expired by this gateway's clock may be good by another's: that is revoked, too.
    """
    past = timezone.now() - MAX_CLOCK_SKEW
    with suspecting_after_errors():
        ended = tokens.live().update(revoked_at=Now())
        tokens.live(past).update(revoked_at=Now())
        try_to_publish(revoked_tokens(tokens.to_blacklist(past)))
    return ended


def revoke_api_keys(api_keys: QuerySet[ApiKey]) -> int:
    """Revoke API keys; return how many were not yet."""
    with suspecting_after_errors():
        ids = list(api_keys.values_list("key_id", flat=True))
        chosen = ApiKey.objects.filter(key_id__in=ids)
        ended = chosen.filter(revoked_at=None).update(revoked_at=Now())
        try_to_publish(revoked_keys(chosen))
    return ended


def end_epoch(user: User, **changes: Any) -> None:
    """End all that was issued to the user until now, known or not, and make the changes to the row, in one step."""
    with suspecting_after_errors():
        User.objects.filter(pk=user.pk).update(token_epoch=F("token_epoch") + 1, token_epoch_at=Now(), **changes)
        user.refresh_from_db(fields=["token_epoch", "token_epoch_at", *changes])
        try_to_publish(ended_epochs([(user.pk, user.token_epoch, user.token_epoch_at)]))


def lock(user: User, *, until: datetime, **changes: Any) -> None:
    """Lock the account until then, end its epoch and make the changes to the row, in one step."""
    end_epoch(user, locked_until=until, **changes)
    publish_lock(user)


def publish_lock(user: User) -> None:
    """Tell the hot path that the account is locked until `user.locked_until`."""
    try_to_publish(locked([(user.pk, user.locked_until)]))


def publish_unlock(user: User) -> None:
    """Tell the hot path that the account is open again; what Redis does not hear, it asks the database."""
    late_revocations.forget(keys.locked(user.pk))
    with suppress(RedisUnavailable):
        redis_call(lambda redis: redis.delete(keys.locked(user.pk)))
    # Somebody may have locked the account meanwhile, and told Redis before we did.
    now = User.objects.filter(pk=user.pk).first()
    if now is not None and now.is_locked:
        publish_lock(now)
