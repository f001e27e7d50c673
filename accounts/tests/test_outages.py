"""Real gateways whose Redis or database fails and recovers."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from django.conf import settings
from redis import Redis

from lucid_gateway.policy import keys
from testing.gateway import Gateway, running_gateway
from testing.servers import RedisServer, child, free_port, redis_binary, running_mongod, running_redis, wait_for_port
from testing.waiting import wait_until

pytestmark = [pytest.mark.quiet, pytest.mark.usefixtures("db")]
USER = "demo@lucid.test"


def call(gateway: Gateway, method: str, path: str, token: str, **data: Any) -> tuple[int, str]:
    """Return status and error code (or an empty text)."""
    headers = {"Authorization": f"Bearer {token}"}
    with requests.request(method, gateway.url + path, headers=headers, json=data or None, timeout=20) as response:
        return response.status_code, response.json().get("error", {}).get("code", "")[-4:]


def me(gateway: Gateway, token: str) -> str:
    """Return `in`, or the code of the refusal."""
    status, code = call(gateway, "GET", "/users/me", token)
    return "in" if status == 200 else code


def on_every_worker(gateway: Gateway, token: str) -> set[str]:
    return {me(gateway, token) for _ in range(12)}


@contextlib.contextmanager
def redis_on_disk(folder: Path, port: int) -> Iterator[RedisServer]:
    """Run a redis-server that loads the data saved in the folder."""
    command = [redis_binary(), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    with child(command, folder / "log") as process:
        wait_for_port(port, process)
        yield RedisServer(port, process)


@contextlib.contextmanager
def database_that_can_stop(folder: Path) -> Iterator[tuple[dict[str, str], Callable[[], None]]]:
    """Yield the settings of a separate database of the same kind, and a function that stops it."""
    if settings.ON_MONGODB:
        with contextlib.ExitStack() as stack:
            yield {"MONGODB_URI": stack.enter_context(running_mongod())}, stack.close
        return
    path = folder / "gateway.sqlite3"
    yield {"SQLITE_PATH": str(path)}, lambda: path.rename(folder / "away.sqlite3")


@contextlib.contextmanager
def stalled(server: RedisServer) -> Iterator[None]:
    """Freeze the server: connections stay open, and nothing answers."""
    os.kill(server.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.process.pid, signal.SIGCONT)


def test_redis_stalls_stops_and_returns_and_then_the_database_stops_too(tmp_path: Path) -> None:
    with database_that_can_stop(tmp_path) as (database, stop_database), contextlib.ExitStack() as redis:
        server = redis.enter_context(running_redis())
        lives = {"JWT_ACCESS_TOKEN_EXPIRE_MINUTES": "15"}
        with running_gateway(REDIS_URL=server.url, REDIS_TIMEOUT_SECONDS="0.3", **lives, **database) as gateway:
            live, revoked, later = (gateway.issue_token(USER) for _ in range(3))
            call(gateway, "POST", "/auth/logout", revoked)
            assert (me(gateway, live), me(gateway, revoked)) == ("in", "2003")

            with stalled(server):
                started = time.monotonic()
                assert me(gateway, live) == "in"
                assert me(gateway, revoked) == "2003"
                assert time.monotonic() - started < 10

            redis.close()
            assert on_every_worker(gateway, live) == {"in"}
            assert on_every_worker(gateway, revoked) == {"2003"}
            assert call(gateway, "POST", "/auth/logout", later) == (200, "")
            assert on_every_worker(gateway, later) == {"2003"}

            with running_redis(server.port):
                time.sleep(0.6)
                assert on_every_worker(gateway, live) == {"in"}
                assert on_every_worker(gateway, revoked) == on_every_worker(gateway, later) == {"2003"}
                with Redis.from_url(server.url) as client:

                    def revoked() -> list[bytes]:
                        return list(client.scan_iter("*:revoked:*"))

                    wait_until(lambda: len(revoked()) == 2 and bool(client.exists(keys.REVOCATIONS_COMPLETE)), 30)
                    assert all(0 < client.ttl(key) <= 900 + 3600 for key in revoked())

                stop_database()
                # Let in: Redis answers, as soon as each worker has noticed.
                wait_until(
                    lambda: {call(gateway, "GET", "/chain/info", live) for _ in range(16)} == {(502, "5005")}, 30
                )
                assert call(gateway, "GET", "/users/me", live) == (503, "5002")
                assert call(gateway, "POST", "/sessions", live, name="s") == (503, "5002")
            assert call(gateway, "GET", "/chain/info", live) == (503, "5002")
            # A worker that has read the revocation needs neither Redis nor the database.
            assert call(gateway, "GET", "/chain/info", revoked) in {(503, "5002"), (401, "2003")}


def test_a_crash_of_redis_that_loses_the_last_writes_revives_no_token(tmp_path: Path) -> None:
    with contextlib.ExitStack() as redis:
        server = redis.enter_context(redis_on_disk(tmp_path, free_port()))
        with running_gateway(REDIS_URL=server.url) as gateway:
            token = gateway.issue_token(USER)
            assert on_every_worker(gateway, token) == {"in"}
            with Redis.from_url(server.url) as client:
                client.save()
            call(gateway, "POST", "/auth/logout", token)
            server.process.kill()
            redis.close()

            with redis_on_disk(tmp_path, server.port):
                time.sleep(0.6)
                assert on_every_worker(gateway, token) == {"2003"}
