"""A Lua script on Redis at the least cost: one round trip on a connection that is kept for scripts alone."""

import hashlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from lucid_gateway.redis_access import breaker, redis_client

MAX_CONNECTIONS = 32
WAIT_SECONDS = 2.0
# An argument that stands for the run id of the server that the script runs on.
SERVER_RUN_ID: Final = object()


class ScriptConnection:
    """A connection to Redis, and the run id of the server at its other end."""

    def __init__(self) -> None:
        # Any: redis-py's connections are not typed.
        self.redis: Any = redis_client().connection_pool.make_connection()
        self.run_id = b""

    def open(self) -> None:
        """Connect, and ask the server who it is: it stays the same as long as the connection does."""
        self.redis.connect()
        self.redis.send_command("INFO", "server")
        lines = self.redis.read_response().splitlines()
        self.run_id = next(line.partition(b":")[2] for line in lines if line.startswith(b"run_id:"))


class Connections:
    """The connections of one process: a burst of requests waits a moment for one instead of failing."""

    def __init__(self) -> None:
        self.idle: SimpleQueue[ScriptConnection] = SimpleQueue()
        for _ in range(MAX_CONNECTIONS):
            self.idle.put(ScriptConnection())

    def take(self) -> ScriptConnection:
        """Return a connection, open or not; raise redis.exceptions.TimeoutError when all stay busy."""
        try:
            return self.idle.get(timeout=WAIT_SECONDS)
        except Empty:
            raise RedisTimeoutError("all connections are busy") from None

    def give_back(self, connection: ScriptConnection) -> None:
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
        """Return what the script returns; raise RedisUnavailable when Redis cannot be had."""
        return breaker.call(lambda: self.run(keys, arguments))

    def run(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Run the script; a connection that the server closed while it was idle is opened again, once."""
        connection = connections().take()
        try:
            was_open = connection.redis.is_connected
            try:
                return self.evaluate(connection, keys, arguments)
            except RedisConnectionError:
                if not was_open:
                    raise
                return self.evaluate(connection, keys, arguments)
        except ResponseError:
            raise
        except BaseException:
            # An answer may still be on its way: it must not meet the next command.
            connection.redis.disconnect()
            raise
        finally:
            connections().give_back(connection)

    def evaluate(self, connection: ScriptConnection, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
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
