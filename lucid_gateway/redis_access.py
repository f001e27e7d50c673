"""The way to Redis: one bounded pool a process, and a breaker so that a dead Redis costs next to nothing."""

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar, cast

from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import RedisError

from lucid_gateway import metrics

T = TypeVar("T")
PROBE_EVERY_SECONDS = 0.25


class RedisUnavailable(Exception):
    """Redis refused, timed out or answered with an error; nothing is known of what the call did."""


class Outage:
    """The time from a failure until a probe succeeds."""


class RedisBreaker:
    """Fails calls at once after one failed, until a probe succeeds.

    The probe runs beside the requests: none waits for it, and none goes on without Redis once it is back. The state is
    a process's own: each worker finds out for itself and recovers by itself.
    """

    def __init__(self, probe: Callable[[], object], probe_every: float = PROBE_EVERY_SECONDS) -> None:
        self.probe = probe
        self.probe_every = probe_every
        self.outage: Outage | None = None
        self.opening = threading.Lock()

    def call(self, command: Callable[[], T]) -> T:
        """Return what the command returns; raise RedisUnavailable if it fails or the breaker is open."""
        if self.outage:
            metrics.REDIS_UNAVAILABLE.inc()
            raise RedisUnavailable("breaker is open")
        try:
            return command()
        except RedisError as error:
            self.open()
            metrics.REDIS_UNAVAILABLE.inc()
            raise RedisUnavailable(type(error).__name__) from error

    def open(self) -> None:
        """Fail calls until a probe succeeds; one that probes already goes on."""
        with self.opening:
            if self.outage is None:
                self.outage = Outage()
                threading.Thread(target=self.wait_for_end, args=[self.outage], name="redis-probe", daemon=True).start()

    def wait_for_end(self, outage: Outage) -> None:
        """Probe until it succeeds, then let calls through again."""
        while self.outage is outage:
            time.sleep(self.probe_every)
            try:
                self.probe()
            except RedisError:
                continue
            if self.outage is outage:
                self.outage = None


def probe() -> None:
    """Write one key: a server that is full, or a replica, answers to all that only reads. Raises RedisError."""
    redis_client().set("redis_probe", "", px=1000)


breaker = RedisBreaker(probe)


def redis_client() -> Redis:
    """Return the process's client; commands through it are not guarded by the breaker."""
    return cast(Redis, get_redis_connection("default"))


def redis_call(command: Callable[[Redis], T]) -> T:
    """Run one short command or script on Redis; raise RedisUnavailable when it cannot be had."""
    return breaker.call(lambda: command(redis_client()))


def ping() -> Any:
    """Ask Redis for a sign of life; raise RedisUnavailable."""
    return redis_call(lambda redis: redis.ping())
