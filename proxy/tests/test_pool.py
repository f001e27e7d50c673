"""Idle connections: kept only after a fully read answer, reused only if nothing has arrived since."""

import time
from collections.abc import Iterator

import pytest

from lucid_gateway.policy.errors import UpstreamUnreachable
from lucid_gateway.policy.routes import Timeouts
from proxy.clusters import Instance
from proxy.connection import pool as pool_module
from proxy.connection.pool import MAX_IDLE, MAX_IDLE_SECONDS, SAFE_IDLE_SECONDS, Pool, pool_for
from proxy.connection.upstream import Connection
from testing.http.cluster import OK, RawCluster, saying, saying_and_closing
from testing.servers import free_port

TIMEOUTS = Timeouts(connect=1, read=1, total=2)


@pytest.fixture
def pool(raw_cluster: RawCluster) -> Iterator[Pool]:
    pool = Pool(raw_cluster.instance)
    yield pool
    for connection in pool.idle:
        connection.close()


def use(connection: Connection) -> Connection:
    """Send a request on the connection and read the whole answer."""
    connection.start("GET", TIMEOUTS)
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.read_head()
    for _ in connection.read_body():
        pass
    return connection


def test_a_connection_is_reused(pool: Pool, raw_cluster: RawCluster) -> None:
    first = pool.take(TIMEOUTS)
    assert not first.reused
    pool.give_back(use(first))
    second = pool.take(TIMEOUTS)
    assert second is first
    assert second.reused
    assert raw_cluster.accepted == 1
    pool.give_back(use(second))


def test_the_most_recently_used_connection_is_taken_first(pool: Pool) -> None:
    first, second = use(pool.take(TIMEOUTS)), use(pool.take(TIMEOUTS))
    pool.give_back(first)
    pool.give_back(second)
    assert pool.take(TIMEOUTS) is second
    assert pool.take(TIMEOUTS) is first
    first.close()
    second.close()


def test_no_connection_is_lent_twice(pool: Pool) -> None:
    pool.give_back(use(pool.take(TIMEOUTS)))
    first, second = pool.take(TIMEOUTS), pool.take(TIMEOUTS)
    assert first is not second
    first.close()
    second.close()


def test_a_fresh_connection_is_a_new_one(pool: Pool) -> None:
    pool.give_back(use(pool.take(TIMEOUTS)))
    fresh = pool.take(TIMEOUTS, fresh=True)
    assert not fresh.reused
    assert len(pool.idle) == 1
    fresh.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"late",
        b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    ],
)
def test_a_connection_with_leftovers_is_closed(pool: Pool, raw_cluster: RawCluster, answer: bytes) -> None:
    raw_cluster.behaviour = saying(answer)
    connection = use(pool.take(TIMEOUTS))
    pool.give_back(connection)
    assert not pool.idle
    assert connection.sock.fileno() == -1


def test_a_connection_without_framing_is_closed(pool: Pool, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying_and_closing(b"HTTP/1.1 200 OK\r\n\r\nok")
    pool.give_back(use(pool.take(TIMEOUTS)))
    assert not pool.idle


def test_a_partly_read_answer_closes_the_connection(pool: Pool, raw_cluster: RawCluster) -> None:
    raw_cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
    connection = pool.take(TIMEOUTS)
    connection.start("GET", TIMEOUTS)
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.read_head()
    assert next(connection.read_body()) == b"hello"
    pool.give_back(connection)
    assert not pool.idle


def test_an_unread_body_closes_the_connection(pool: Pool) -> None:
    connection = pool.take(TIMEOUTS)
    connection.start("GET", TIMEOUTS)
    connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.read_head()
    pool.give_back(connection)
    assert not pool.idle


def test_a_connection_closed_by_the_server_is_not_reused(pool: Pool, raw_cluster: RawCluster) -> None:
    first = use(pool.take(TIMEOUTS))
    pool.give_back(first)
    raw_cluster.hang_up()
    second = pool.take(TIMEOUTS)
    assert second is not first
    assert first.sock.fileno() == -1
    pool.give_back(use(second))


def test_a_connection_idle_for_long_is_not_reused(pool: Pool) -> None:
    first = use(pool.take(TIMEOUTS))
    pool.give_back(first)
    first.idle_since -= MAX_IDLE_SECONDS + 1
    second = pool.take(TIMEOUTS)
    assert second is not first
    second.close()


def test_idle_connections_from_a_burst_are_closed_in_time(pool: Pool) -> None:
    burst = [use(pool.take(TIMEOUTS)) for _ in range(3)]
    for connection in burst:
        pool.give_back(connection)
    for connection in burst[:2]:
        connection.idle_since -= MAX_IDLE_SECONDS + 1
    pool.give_back(use(pool.take(TIMEOUTS)))
    assert list(pool.idle) == burst[2:]
    assert [connection.sock.fileno() for connection in burst[:2]] == [-1, -1]


def test_the_number_of_idle_connections_is_limited(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "MAX_IDLE", 2)
    connections = [use(pool.take(TIMEOUTS)) for _ in range(3)]
    for connection in connections:
        pool.give_back(connection)
    assert list(pool.idle) == connections[:2]
    assert connections[2].sock.fileno() == -1
    assert MAX_IDLE > 2


def test_an_instance_that_refuses_connections_is_unreachable() -> None:
    with pytest.raises(UpstreamUnreachable):
        Pool(Instance("http", "127.0.0.1", free_port())).take(TIMEOUTS)


def test_checking_an_idle_connection_takes_no_time(pool: Pool) -> None:
    pool.give_back(use(pool.take(TIMEOUTS)))
    started = time.perf_counter()
    pool.give_back(pool.take(TIMEOUTS))
    assert time.perf_counter() - started < TIMEOUTS.connect


def test_each_instance_has_one_pool() -> None:
    first, second = Instance("http", "a.test", 80), Instance("http", "a.test", 81)
    assert pool_for(first) is pool_for(Instance("http", "a.test", 80))
    assert pool_for(first) is not pool_for(second)


def test_an_unrepeatable_request_takes_no_connection_idle_for_long(pool: Pool) -> None:
    kept = use(pool.take(TIMEOUTS))
    pool.give_back(kept)
    kept.idle_since -= SAFE_IDLE_SECONDS + 0.1
    other = pool.take(TIMEOUTS, idle_seconds=SAFE_IDLE_SECONDS)
    assert other is not kept
    assert pool.take(TIMEOUTS) is kept
    kept.close()
    other.close()


def test_old_connections_are_closed_though_newer_ones_are_used(pool: Pool) -> None:
    old, new = use(pool.take(TIMEOUTS)), use(pool.take(TIMEOUTS))
    pool.give_back(old)
    pool.give_back(new)
    old.idle_since -= MAX_IDLE_SECONDS + 1
    assert pool.take(TIMEOUTS) is new
    assert old.sock.fileno() == -1
    new.close()
