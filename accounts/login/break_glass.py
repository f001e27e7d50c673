"""Checks of super admins' codes while Redis, which counts the failures, is down.

Each process counts the attempts itself: in each minute 5 of an address, 5 of an account, and 20 in all.
"""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from accounts.lockouts import LockoutSubject, charged, this_address
from lucid_gateway.kernel.redis.access import RedisCallFailed, RedisUnavailable
from lucid_gateway.policy.errors import TooManyAttempts
from lucid_gateway.policy.tiers import WINDOW_SECONDS
from ratelimit.engine.limits import RequestLimit
from ratelimit.engine.local import LocalLimiter

NAME = "break_glass"
OF_ONE, IN_ALL = RequestLimit(NAME, 5, 0), RequestLimit(NAME, 20, 0)
attempts = LocalLimiter()


@contextmanager
def charged_even_without_redis(email: str, *subjects: LockoutSubject, fallback: bool) -> Iterator[bool]:
    """Charge an attempt like `lockouts.charged`, or count it here if Redis is down; yield whether Redis is down.

    Raises TooManyAttempts, or RedisUnavailable if a `fallback` is not allowed or only this call to Redis failed.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(charged(*subjects))
            without_redis = False
        except RedisCallFailed:
            raise
        except RedisUnavailable:
            if not fallback:
                raise
            count_attempt(email)
            without_redis = True
        yield without_redis


def count_attempt(email: str) -> None:
    """Count an attempt of the request's address on the account; raise TooManyAttempts, and count no further, over a
    limit.
    """
    now = int(time.time())
    for key, limit in ((this_address().text, OF_ONE), (f"account:{email}", OF_ONE), ("all", IN_ALL)):
        admitted, _, _ = attempts.admit(key, limit, now)
        if not admitted:
            raise TooManyAttempts(retry_after=WINDOW_SECONDS - now % WINDOW_SECONDS)
