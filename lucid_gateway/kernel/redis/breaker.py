"""The breaker in front of Redis: a dead or slow Redis costs requests next to nothing."""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import ClusterDownError, DataError, OutOfMemoryError, ReadOnlyError, RedisError, ResponseError

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.connections import PoolBusy

T = TypeVar("T")
logger = logging.getLogger(__name__)

PROBE_EVERY_SECONDS = 0.25
# A Redis that was slow is used again after so many fast answers in a row. It is given up after fewer slow ones, but
# they are a second apart (`lucid_gateway.kernel.redis.watch`), so that it does not come and go.
FAST_PROBES_AFTER_SLOWNESS = 8
FAILURES_LOGGED_EVERY_SECONDS = 60.0

# Errors of a server that can serve nobody now. Redis 6 quotes them in the error of the script that met them.
OUTAGE_ERRORS = (OutOfMemoryError, ReadOnlyError, ClusterDownError)
OUTAGE_CODES = re.compile(r"(?:^|caused error: |: -)(?:OOM|READONLY|NOREPLICAS|MISCONF|BUSY|MASTERDOWN|CLUSTERDOWN) ")


class RedisUnavailable(Exception):
    """Redis refused, timed out or answered with an error; nothing is known of what the call did."""


class RedisCallFailed(RedisUnavailable):
    """This one call failed, but Redis works: it refused the command, or all connections of this process were busy."""


class Outage:
    """The time from a failure until so many probes in a row are answered fast."""

    def __init__(self, fast_probes: int = 1) -> None:
        self.fast_probes = fast_probes
        self.fast_so_far = 0
        self.started = time.monotonic()


def is_outage(error: RedisError) -> bool:
    """Return whether the error says that Redis is of no use at present, not just that one call failed."""
    if isinstance(error, PoolBusy | DataError):
        return False
    if isinstance(error, ResponseError):
        return isinstance(error, OUTAGE_ERRORS) or bool(OUTAGE_CODES.search(str(error)))
    return True


class RedisBreaker:
    """Fails calls at once after one failed, until a probe succeeds.

    The probe runs beside the requests: none waits for it, and none goes on without Redis once it is back. The state is
    a process's own: each worker finds out for itself and recovers by itself. `probe` returns whether the answer came
    fast, and raises RedisError when there is none; `drop` closes all connections: they may lead to a dead server.
    """

    def __init__(
        self,
        probe: Callable[[], bool],
        probe_every: float = PROBE_EVERY_SECONDS,
        drop: Callable[[], object] = lambda: None,
    ) -> None:
        self.probe, self.probe_every, self.drop = probe, probe_every, drop
        self.outage: Outage | None = None
        self.outages = 0
        self.opening = threading.Lock()
        self.failure_logged_at = float("-inf")

    def call(self, command: Callable[[], T]) -> T:
        """Return what the command returns; raise RedisUnavailable if it fails or the breaker is open."""
        if self.outage:
            metrics.REDIS_UNAVAILABLE.inc()
            raise RedisUnavailable("breaker is open")
        outages = self.outages
        try:
            return command()
        except RedisError as error:
            raise self.failed(error, outages) from error

    def failed(self, error: RedisError, outages: int) -> RedisUnavailable:
        """Return what to raise for a call that began after so many outages, and open the breaker if Redis is of no use.

        A call that began before the last outage says nothing of the time after it.
        """
        metrics.REDIS_UNAVAILABLE.inc()
        if not is_outage(error):
            self.log_failure(error)
            return RedisCallFailed(type(error).__name__)
        if outages == self.outages:
            self.open(described(error))
        return RedisUnavailable(type(error).__name__)

    def log_failure(self, error: RedisError) -> None:
        """Log that a call failed, once a minute at most: it may happen with each request."""
        now = time.monotonic()
        if now - self.failure_logged_at > FAILURES_LOGGED_EVERY_SECONDS:
            self.failure_logged_at = now
            logger.warning("a call to Redis failed", extra={"error": described(error)})

    def open(self, reason: str, *, fast_probes: int = 1) -> None:
        """Fail calls until so many probes in a row succeed; one that probes already goes on."""
        with self.opening:
            if self.outage is not None:
                return
            self.outage = outage = Outage(fast_probes)
            self.outages += 1
        logger.warning("Redis is unavailable", extra={"error": reason})
        Loop(
            "redis-probe", lambda: self.look(outage), every=self.probe_every, needed=lambda: self.outage is outage
        ).start()
        self.drop()

    def look(self, outage: Outage) -> None:
        """Probe once, and let calls through again after enough fast answers in a row."""
        try:
            is_fast = self.probe()
        except Exception:  # noqa: BLE001  # whatever it is, the end must be noticed
            outage.fast_so_far = 0
            self.drop()
            return
        outage.fast_so_far = outage.fast_so_far + 1 if is_fast else 0
        if outage.fast_so_far >= outage.fast_probes and self.outage is outage:
            logger.warning("Redis is available again after %.1f seconds", time.monotonic() - outage.started)
            self.outage = None


def described(error: RedisError) -> str:
    """Return the kind of the error and its text, without the command that redis-py puts before it."""
    return f"{type(error).__name__}: {str(error).rpartition('caused error: ')[2]}"
