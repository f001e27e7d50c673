"""The breaker in front of Redis, which keeps a dead or slow Redis from delaying requests."""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from redis.exceptions import (
    AskError,
    ClusterDownError,
    DataError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from lucid_gateway.kernel import metrics
from lucid_gateway.kernel.loops import Loop
from lucid_gateway.kernel.redis.connections import PoolBusy

T = TypeVar("T")
logger = logging.getLogger(__name__)

PROBE_EVERY_SECONDS = 0.25
# After slowness, the breaker closes after this many fast answers in a row. It opens after fewer slow answers, but those
# are half a second apart (`lucid_gateway.kernel.redis.watch`), so that it does not flap.
FAST_PROBES_AFTER_SLOWNESS = 8
FAILURES_LOGGED_EVERY_SECONDS = 60.0

# Errors of a server that can serve no client at present. Redis 6 quotes them inside the error of a script.
OUTAGE_ERRORS = (OutOfMemoryError, ReadOnlyError, ClusterDownError)
# Answers of a cluster's node about a slot that it does not serve, or that is being moved. MovedError is an AskError.
REDIRECTIONS = (AskError, TryAgainError)
OUTAGE_CODES = re.compile(r"(?:^|caused error: |: -)(?:OOM|READONLY|NOREPLICAS|MISCONF|BUSY|MASTERDOWN|CLUSTERDOWN) ")


class RedisUnavailable(Exception):
    """Redis refused, timed out or answered with an error; the call may or may not have taken effect."""


class RedisCallFailed(RedisUnavailable):
    """This call failed, but Redis works: it refused the command, or all connections of this process were busy."""


class Outage:
    """The time from a failure until `fast_probes` probes in a row get fast answers."""

    def __init__(self, fast_probes: int = 1) -> None:
        self.fast_probes = fast_probes
        self.fast_so_far = 0
        self.started = time.monotonic()


def is_outage(error: RedisError) -> bool:
    """Return whether the error means that Redis is down, rather than that one call failed."""
    if isinstance(error, PoolBusy | DataError):
        return False
    if isinstance(error, ResponseError):
        return isinstance(error, OUTAGE_ERRORS) or bool(OUTAGE_CODES.search(str(error)))
    return True


class RedisBreaker:
    """Fails calls immediately after one call failed, until a probe succeeds.

    The probe runs in the background, so that no request waits for it. Each process has its own breaker, which opens and
    closes independently of the others. `probe` returns whether the answer was fast, and raises RedisError if there was
    none; `drop` closes all connections, because they may lead to a dead server.
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
        """Return what the command returns; raise RedisUnavailable if it fails or the breaker is open.

        Redirections of a cluster's node pass: they are for the caller, who follows them.
        """
        if self.outage:
            metrics.REDIS_UNAVAILABLE.inc()
            raise RedisUnavailable("breaker is open")
        outages = self.outages
        try:
            return command()
        except REDIRECTIONS:
            raise
        except RedisError as error:
            raise self.handle_failure(error, outages) from error

    def handle_failure(self, error: RedisError, outages: int) -> RedisUnavailable:
        """Return the exception to raise, and open the breaker if Redis is down.

        `outages` is the number of outages when the call began: a call from before the last outage does not show the
        state of Redis after it.
        """
        metrics.REDIS_UNAVAILABLE.inc()
        if not is_outage(error):
            self.log_failure(error)
            return RedisCallFailed(type(error).__name__)
        if outages == self.outages:
            self.open(describe(error))
        return RedisUnavailable(type(error).__name__)

    def log_failure(self, error: RedisError) -> None:
        """Log a failed call, at most once a minute, because each request may fail."""
        now = time.monotonic()
        if now - self.failure_logged_at > FAILURES_LOGGED_EVERY_SECONDS:
            self.failure_logged_at = now
            logger.warning("a call to Redis failed", extra={"error": describe(error)})

    def open(self, reason: str, *, fast_probes: int = 1) -> None:
        """Fail calls until `fast_probes` probes in a row get fast answers. An outage that has begun continues."""
        with self.opening:
            if self.outage is not None:
                return
            self.outage = outage = Outage(fast_probes)
            self.outages += 1
        logger.warning("Redis is unavailable", extra={"error": reason})
        Loop(
            "redis-probe", lambda: self.try_probe(outage), every=self.probe_every, needed=lambda: self.outage is outage
        ).start()
        self.drop()

    def try_probe(self, outage: Outage) -> None:
        """Probe once, and close the breaker after enough fast answers in a row."""
        try:
            is_fast = self.probe()
        except Exception:  # noqa: BLE001  # no error may end the probing
            outage.fast_so_far = 0
            self.drop()
            return
        outage.fast_so_far = outage.fast_so_far + 1 if is_fast else 0
        if outage.fast_so_far >= outage.fast_probes and self.outage is outage:
            self.close()

    def close(self) -> None:
        """Let calls pass again, if there is an outage."""
        outage, self.outage = self.outage, None
        if outage is not None:
            logger.warning("Redis is available again after %.1f seconds", time.monotonic() - outage.started)


def describe(error: RedisError) -> str:
    """Return the error's type and text, without the command that redis-py puts before the text."""
    return f"{type(error).__name__}: {str(error).rpartition('caused error: ')[2]}"
