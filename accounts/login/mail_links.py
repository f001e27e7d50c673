"""Mailed links that set a password or confirm an address. Redis has their hashes; each works once.

Ending all tokens of a user voids their links: a new password voids the links that were mailed before.
"""

import json
import secrets
from dataclasses import dataclass

from django.conf import settings
from redis import Redis

from accounts.login.challenges import STARTS_WINDOW_SECONDS
from accounts.models import User
from lucid_gateway.kernel.redis.access import redis_call
from lucid_gateway.kernel.secrets.digests import keyed_hash, secret_hash
from lucid_gateway.policy import keys
from lucid_gateway.policy.errors import CodeExpired, TooManyAttempts


@dataclass(frozen=True)
class Link:
    """An unused link: its user, and the address that it is about."""

    key: str
    user: User
    email: str


def create(purpose: str, email: str, *, user: User | None, counted: str, lifetime: int) -> str:
    """Store a link for `lifetime` seconds; return its token.

    `email` is the address that the link is about, `counted` who asks for it. Without a user the link does nothing.
    Raises TooManyAttempts after LOGINS_PER_ACCOUNT links in five minutes.
    """
    token = secrets.token_urlsafe(32)
    owner = {"user_id": str(user.pk), "epoch": user.token_epoch} if user else {}
    counter = keys.mail_link_starts(purpose, keyed_hash("counted", counted))

    def count(redis: Redis) -> list[int]:
        pipeline = redis.pipeline(transaction=True)
        pipeline.set(counter, 0, ex=STARTS_WINDOW_SECONDS, nx=True)
        pipeline.incr(counter)
        pipeline.ttl(counter)
        return list(pipeline.execute())

    _, started, wait = redis_call(counter, count)
    if started > settings.ENV.LOGINS_PER_ACCOUNT:
        raise TooManyAttempts(retry_after=max(1, wait))
    stored = json.dumps(owner | {"email": email})
    key = keys.mail_link(purpose, secret_hash(token))
    redis_call(key, lambda redis: redis.set(key, stored, ex=lifetime))
    return token


def look_up(purpose: str, token: str) -> Link:
    """Return the link without using it up; raise CodeExpired if it has expired or was used."""
    key = keys.mail_link(purpose, secret_hash(token))
    stored = json.loads(redis_call(key, lambda redis: redis.get(key)) or "{}")
    user = User.objects.active_user(pk=stored["user_id"]) if "user_id" in stored else None
    if user is None or user.is_locked or user.token_epoch != stored["epoch"]:
        raise CodeExpired()
    return Link(key, user, stored["email"])


def use(link: Link) -> None:
    """Use the link up. Of parallel uses one succeeds; the others raise CodeExpired."""
    if not redis_call(link.key, lambda redis: redis.delete(link.key)):
        raise CodeExpired()
