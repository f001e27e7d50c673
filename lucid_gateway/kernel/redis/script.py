"""Lua scripts on Redis at the lowest cost: one round trip on a connection that only scripts use."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from lucid_gateway.kernel.redis.access import cluster, single_server
from lucid_gateway.kernel.redis.server import OwnConnection, Server

# An argument that `evaluate` replaces by the run id of the server on which the script runs.
SERVER_RUN_ID: Final = object()


class RedisScript:
    """A script in a file. It is sent as a hash, and in full once if the server does not know it."""

    def __init__(self, path: Path) -> None:
        self.source = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Return the script's result; in a cluster, all keys must be in one slot. Raises RedisUnavailable."""
        found = cluster()
        if found is None:
            return single_server.breaker.call(lambda: self.run(single_server, keys, arguments))
        return found.call(keys[0], lambda server, asking: self.run(server, keys, arguments, asking=asking))

    def add_to(self, pipeline: Pipeline, keys: Sequence[str], arguments: Sequence[Any]) -> None:
        """Add the script to a pipeline, in full: a pipeline cannot resend it if the server does not know it."""
        pipeline.eval(self.source, len(keys), *keys, *arguments)

    def run(self, server: Server, keys: Sequence[str], arguments: Sequence[Any], *, asking: bool = False) -> Any:
        """Run the script on a server; if the connection was closed while it was idle, reopen it once."""
        connection = server.connections.take()
        try:
            was_open = connection.redis.is_connected
            try:
                return self.evaluate(connection, keys, arguments, asking=asking)
            except RedisConnectionError:
                if not was_open or server.breaker.outage:
                    raise
                connection.redis.disconnect()
                return self.evaluate(connection, keys, arguments, asking=asking)
        except ResponseError:
            raise
        except BaseException:
            # A late answer must not be read as the answer to the next command.
            connection.redis.disconnect()
            raise
        finally:
            server.connections.give_back(connection)

    def evaluate(
        self, connection: OwnConnection, keys: Sequence[str], arguments: Sequence[Any], *, asking: bool
    ) -> Any:
        redis = connection.redis
        if not redis.is_connected:
            connection.open()
        filled = [connection.run_id if argument is SERVER_RUN_ID else argument for argument in arguments]
        try:
            return send(redis, "EVALSHA", self.sha, len(keys), *keys, *filled, asking=asking)
        except NoScriptError:
            return send(redis, "EVAL", self.source, len(keys), *keys, *filled, asking=asking)


def send(redis: Any, *command: Any, asking: bool) -> Any:
    """Send the command, after ASKING if its slot is being moved to the server; return the answer."""
    if asking:
        redis.send_command("ASKING")
        redis.read_response()
    redis.send_command(*command)
    return redis.read_response()
