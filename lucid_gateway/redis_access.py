"""The way to Redis: one bounded pool a process, and a breaker so that a dead Redis costs next to nothing."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import RedisError

T = TypeVar("T")
RETRY_AFTER_SECONDS = 0.9
PROBE_WAIT_SECONDS = 0.1


class RedisUnavailable(Exception):
    """Redis refused, timed out or answered with an error; nothing is known of what the call did."""


class RedisBreaker:
    """Fails calls at once for a while after one failed; then lets one call probe (half-open), for which others wait a
    moment: if they went on without Redis now, more than the limit would pass when it is back.

    The state is a process's own: each worker finds out for itself and recovers by itself.
    """

    def __init__(self, retry_after: float = RETRY_AFTER_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.retry_after = retry_after
        self.clock = clock
        self._blocked_until = 0.0
        self._probe = threading.Lock()

    def call(self, command: Callable[[], T]) -> T:
        """Return what the command returns; raise RedisUnavailable if it fails or the breaker is open."""
        if not self._blocked_until:
            return self._attempt(command)
        if self.clock() < self._blocked_until or not self._probe.acquire(timeout=PROBE_WAIT_SECONDS):
            raise RedisUnavailable("breaker is open")
        try:
            if self.clock() < self._blocked_until:
                raise RedisUnavailable("the probe failed")
            if self._blocked_until:
                return self._attempt(command)
        finally:
            self._probe.release()
        return self._attempt(command)

    def _attempt(self, command: Callable[[], T]) -> T:
        try:
            result = command()
        except RedisError as error:
            self._blocked_until = self.clock() + self.retry_after
            raise RedisUnavailable(type(error).__name__) from error
        self._blocked_until = 0.0
        return result


breaker = RedisBreaker()


def redis_client() -> Redis:
    """Return the process's client; commands through it are not guarded by the breaker."""
    return cast(Redis, get_redis_connection("default"))


def redis_call(command: Callable[[Redis], T]) -> T:
    """Run one short command or script on Redis; raise RedisUnavailable when it cannot be had."""
    return breaker.call(lambda: command(redis_client()))


def ping() -> Any:
    """Ask Redis for a sign of life; raise RedisUnavailable."""
    return redis_call(lambda redis: redis.ping())
