"""Lua scripts on Redis at the lowest cost: one round trip on a connection that only scripts use."""

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
# An argument that `evaluate` replaces by the run id of the server on which the script runs.
SERVER_RUN_ID: Final = object()


class Connections:
    """The connections of one process. A burst of requests waits for a connection instead of failing."""

    def __init__(self) -> None:
        self.idle: SimpleQueue[OwnConnection] = SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self.idle.put(OwnConnection())

    def take(self) -> OwnConnection:
        """Return an idle connection, which may be closed; raise PoolBusy if all stay busy."""
        try:
            return self.idle.get_nowait()
        except Empty:
            return self.wait()

    def wait(self) -> OwnConnection:
        """Return the next connection that is given back; raise RedisError on a timeout or once the breaker is open."""
        try:
            connection = self.idle.get(timeout=WAIT_SECONDS)
        except Empty:
            raise PoolBusy("all connections are busy") from None
        if breaker.outage:
            self.give_back(connection)
            raise RedisConnectionError("the breaker has opened")
        return connection

    def give_back(self, connection: OwnConnection) -> None:
        self.idle.put(connection)


@cache
def connections() -> Connections:
    """Return this process's connections, made on first use, after the worker was forked."""
    return Connections()


class RedisScript:
    """A script in a file. It is sent as a hash, and in full once if the server does not know it."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Return the script's result; raise RedisUnavailable."""
        return breaker.call(lambda: self.run(keys, arguments))

    def add_to(self, pipeline: Pipeline, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Add the script to a pipeline, in full: a pipeline cannot resend it if the server does not know it."""
        pipeline.eval(self.source, len(keys), *keys, *arguments)

    def run(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script; if the connection was closed while it was idle, reopen it once."""
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
            # A late answer must not be read as the answer to the next command.
            connection.redis.disconnect()
            raise
        finally:
            connections().give_back(connection)

    def evaluate(self, connection: OwnConnection, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
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
