"""A Lua script on Redis at the least cost: one round trip on a connection that is kept for scripts alone."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from lucid_gateway.kernel.redis.access import OwnConnection, breaker
from lucid_gateway.kernel.redis.connections import PoolBusy

MAX_CONNECTIONS = 32
WAIT_SECONDS = 2.0
# An argument that stands for the run id of the server that the script runs on.
SERVER_RUN_ID: Final = object()


class Connections:
    """The connections of one process: a burst of requests waits a moment for one instead of failing."""

    def __init__(self) -> None:
        self.idle: SimpleQueue[OwnConnection] = SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self.idle.put(OwnConnection())

    def take(self) -> OwnConnection:
        """Return a connection, open or not; raise PoolBusy when all stay busy."""
        try:
            return self.idle.get_nowait()
        except Empty:
            return self.wait()

    def wait(self) -> OwnConnection:
        """Return the next connection that is given back, unless Redis was given up meanwhile; raise RedisError."""
        try:
            connection = self.idle.get(timeout=WAIT_SECONDS)
        except Empty:
            raise PoolBusy("all connections are busy") from None
        if breaker.outage:
            self.give_back(connection)
            raise RedisConnectionError("given up")
        return connection

    def give_back(self, connection: OwnConnection) -> None:
        """Keep the connection for the next script."""
        self.idle.put(connection)


@cache
def connections() -> Connections:
    """Return this process's connections; made on first use, after the worker was forked."""
    return Connections()


class RedisScript:
    """A script in a file, sent by its hash, and in full once after the server has lost it."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Return what the script returns; raise RedisUnavailable when Redis is not available."""
        return breaker.call(lambda: self.run(keys, arguments))

    def add_to(self, pipeline: Pipeline, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Add the script to a pipeline, in full: a pipeline cannot send it again when the server has lost it."""
        pipeline.eval(self.source, len(keys), *keys, *arguments)

    def run(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script; a connection that was closed while it was idle is opened again, once."""
        connection = connections().take()
        try:
            was_open = connection.redis.is_connected
            try:
                return self.evaluate(connection, keys, arguments)
            except RedisConnectionError:
                if not was_open or breaker.outage:
                    raise
                connection.redis.disconnect()
                return self.evaluate(connection, keys, arguments)
        except ResponseError:
            raise
        except BaseException:
            # An answer may still be on its way: it must not meet the next command.
            connection.redis.disconnect()
            raise
        finally:
            connections().give_back(connection)

    def evaluate(self, connection: OwnConnection, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Send the script by its hash and return its answer."""
        redis = connection.redis
        if not redis.is_connected:
            connection.open()
        filled = [connection.run_id if argument is SERVER_RUN_ID else argument for argument in arguments]
        redis.send_command("EVALSHA", self.sha, len(keys), *keys, *filled)
        try:
            return redis.read_response()
        except NoScriptError:
            redis.send_command("EVAL", self.source, len(keys), *keys, *filled)
            return redis.read_response()
