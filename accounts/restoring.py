"""Making a restored database safe to serve from.

A backup brings back credentials that were revoked or used after it was made, and it does not say which. So everything
issued before the restore stops working: tokens and sessions end, and API keys wait for an operator to confirm them.
"""

from dataclasses import dataclass

from django.conf import settings
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone
from redis import Redis

from accounts.factors.totp import use_up_current_codes
from accounts.models import ApiKey, User
from accounts.tokens.revocation.cache import number_at
from accounts.tokens.revocation.publishing import API_KEY_REMEMBERED, Entry, try_to_publish
from accounts.tokens.signing_keys import rotate
from lucid_gateway.audit.events import record
from lucid_gateway.kernel.redis.access import redis_call, servers
from lucid_gateway.policy import keys

BATCH = 1000


@dataclass(frozen=True)
class Retired:
    """The id of the new signing key, and the numbers of ended tokens, suspended API keys and ended admin sessions."""

    signing_key: str
    tokens: int
    api_keys: int
    admin_sessions: int


def retire_issued_credentials() -> Retired:
    """End all tokens and admin sessions, suspend all API keys, and activate a new signing key; return the numbers.

    It can be repeated, also after an interruption. It takes some seconds. Raises RotationUnderway.
    """
    suspended = suspend_api_keys()
    sessions, _ = Session.objects.all().delete()
    use_up_current_codes()
    rotation = rotate(settings.ENV.JWT_ALGORITHM, retire_now=True)
    retired = Retired(rotation.active, rotation.tokens_ended, suspended, sessions)
    record("database.restored", **vars(retired))
    return retired


def suspend_api_keys() -> int:
    """Suspend all live API keys; return how many were not suspended before. Running workers refuse them immediately."""
    now = timezone.now()
    suspended = ApiKey.objects.live().filter(suspended_at=None).update(suspended_at=now)
    owned = list(ApiKey.objects.suspended().values_list("user_id", "key_id"))
    for start in range(0, len(owned), BATCH):
        batch = owned[start : start + BATCH]
        try_to_publish([Entry(keys.revoked(*key), now + API_KEY_REMEMBERED) for key in batch])
    return suspended


def confirm_api_keys(api_keys: QuerySet[ApiKey], *, by: User | str | None = None) -> int:
    """Confirm suspended API keys; return how many.

    Raises RedisUnavailable; the remaining keys stay suspended.
    """
    chosen = ApiKey.objects.suspended().filter(pk__in=list(api_keys.values_list("pk", flat=True)))
    confirmed = 0
    for key_id, user_id in list(chosen.values_list("key_id", "user_id")):
        delete_keys([keys.revoked(user_id, key_id)])
        if ApiKey.objects.suspended().filter(key_id=key_id).update(suspended_at=None):
            confirmation = {"state": ["suspended", "live"]}
            record("api_key.confirmed", subject=str(user_id), actor=by, changes=confirmation, key_id=key_id)
            confirmed += 1
    return confirmed


def settle_with_redis() -> int:
    """Make Redis and the restored database agree; return how many mailed logins and links were voided.

    Redis may have later epochs than the database, which would invalidate new tokens. Redis may also have been
    restored, and then contains logins and links that were already used. Raises RedisUnavailable.
    """
    for key in keys_like(keys.EVERY_EPOCH):
        keep_epoch(keys.user_id_of(key), number_at(key))
    mailed = [key for pattern in keys.EVERYTHING_MAILED for key in keys_like(pattern)]
    delete_keys(mailed)
    return len(mailed)


def keep_epoch(user_id: str, epoch: int) -> None:
    """Write the epoch to the database if it is later than the stored one."""
    users = User.objects.filter(pk=user_id, token_epoch__lt=epoch)
    users.update(token_epoch=epoch, token_epoch_at=timezone.now())


def delete_keys(names: list[str]) -> None:
    """Delete the Redis keys; raise RedisUnavailable."""
    for name in names:
        redis_call(name, lambda redis, name=name: redis.delete(name))  # type: ignore[misc]


def keys_like(pattern: str) -> list[str]:
    """Return the keys in Redis that match the pattern; raise RedisUnavailable."""

    def scan(redis: Redis) -> list[str]:
        return [key.decode() for key in redis.scan_iter(pattern, count=BATCH)]

    return [key for server in servers() for key in server.call(scan)]
