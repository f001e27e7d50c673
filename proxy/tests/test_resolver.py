"""Host names of instances: they are looked up again, changes are followed, and failures keep the known addresses."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.breaker import BreakerRule
from proxy.choosing.health_checks import problem_of
from proxy.choosing.instances import InstanceState
from proxy.clusters import Instance
from proxy.connection import upstream
from proxy.connection.pool import Pool
from proxy.connection.resolver import FRESH_SECONDS, Address, Resolver, look_up
from proxy.tests.test_breaker import Clock
from proxy.tests.test_pool import use
from testing.http.cluster import RawCluster, saying
from testing.servers import free_port
from testing.waiting import wait_until

NAMED = Instance("http", "core.test", 80)
TIMEOUTS = Timeouts(connect=1, read=1, total=2)


def at(port: int) -> Address:
    return socket.AF_INET, ("127.0.0.1", port)


class Names:
    """The lookup function: returns `answer`, or raises it, once `waits_for` is set."""

    def __init__(self) -> None:
        self.answer: tuple[Address, ...] | OSError = (at(1),)
        self.lookups = 0
        self.waits_for = threading.Event()
        self.waits_for.set()

    def __call__(self, host: str, port: int) -> tuple[Address, ...]:
        self.lookups += 1
        self.waits_for.wait(5)
        if isinstance(self.answer, OSError):
            raise self.answer
        return self.answer


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def resolver(names: Names, clock: Clock) -> Resolver:
    return Resolver(names, clock)


@pytest.fixture
def installed_resolver(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """The resolver, installed for connections, pools, probes and health checks."""
    monkeypatch.setattr("proxy.connection.upstream.resolver", resolver)
    monkeypatch.setattr("proxy.connection.pool.resolver", resolver)
    monkeypatch.setattr("proxy.choosing.instances.resolver", resolver)
    monkeypatch.setattr("proxy.choosing.health_checks.resolver", resolver)
    return resolver


def wait_until_resolved(resolver: Resolver, *addresses: Address) -> None:
    wait_until(lambda: resolver.addresses(NAMED) == addresses)


def test_a_fresh_name_is_looked_up_once(resolver: Resolver, names: Names, clock: Clock) -> None:
    for _ in range(10):
        assert resolver.addresses(NAMED) == (at(1),)
    clock.now += FRESH_SECONDS
    assert resolver.addresses(NAMED) == (at(1),)
    assert names.lookups == 1


def test_a_change_in_the_dns_is_followed(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.answer = (at(2), at(3))
    clock.now += FRESH_SECONDS + 0.1
    wait_until_resolved(resolver, at(2), at(3))


def test_no_request_waits_for_a_slow_refresh(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    clock.now += FRESH_SECONDS + 0.1
    assert [resolver.addresses(NAMED) for _ in range(50)] == [(at(1),)] * 50
    names.waits_for.set()
    assert names.lookups == 2


def test_a_hanging_lookup_is_not_repeated(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    for _ in range(10):
        clock.now += FRESH_SECONDS + 0.1
        resolver.addresses(NAMED)
    assert names.lookups == 2
    names.waits_for.set()


@pytest.mark.parametrize("answer", [(at(1),), OSError("no such name")])
def test_concurrent_first_lookups_are_one(
    resolver: Resolver, names: Names, answer: tuple[Address, ...] | OSError
) -> None:
    names.answer = answer
    names.waits_for.clear()
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(resolver.addresses, NAMED) for _ in range(20)]
        time.sleep(0.2)
        names.waits_for.set()
    assert {one.exception() or one.result() for one in asked} == {answer}
    assert names.lookups == 1


def test_known_addresses_stay_while_lookups_fail(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.answer = OSError("no resolver")
    for _ in range(3):
        clock.now += FRESH_SECONDS + 0.1
        assert resolver.addresses(NAMED) == (at(1),)


def test_a_name_that_has_never_resolved_is_an_error_each_time(resolver: Resolver, names: Names) -> None:
    names.answer = OSError("no such name")
    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            resolver.addresses(NAMED)
    names.answer = (at(1),)
    assert resolver.addresses(NAMED) == (at(1),)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_ip_address_is_never_looked_up_again(resolver: Resolver, names: Names, clock: Clock, host: str) -> None:
    literal = Instance("http", host, 80)
    for _ in range(3):
        resolver.addresses(literal)
        clock.now += FRESH_SECONDS + 0.1
    assert names.lookups == 1


def test_the_system_resolves_names_and_literals() -> None:
    assert at(80) in look_up("localhost", 80)
    assert look_up("127.0.0.1", 80) == (at(80),)
    assert look_up("::1", 80)[0][1][:2] == ("::1", 80)


def test_an_idle_connection_to_a_former_address_is_not_reused(
    raw_cluster: RawCluster, installed_resolver: Resolver, names: Names, clock: Clock
) -> None:
    pool = Pool(NAMED)
    names.answer = (at(raw_cluster.port),)
    first = use(pool.take(TIMEOUTS))
    pool.give_back(first)
    with RawCluster() as moved:
        names.answer = (at(moved.port),)
        clock.now += FRESH_SECONDS + 0.1
        wait_until_resolved(installed_resolver, at(moved.port))
        second = use(pool.take(TIMEOUTS))
        assert (len(raw_cluster.requests), len(moved.requests)) == (1, 1)
        assert first.sock.fileno() == -1
        second.close()


def test_another_address_is_tried_when_one_refuses(
    raw_cluster: RawCluster, installed_resolver: Resolver, names: Names
) -> None:
    names.answer = (at(free_port()), at(raw_cluster.port))
    connection = upstream.Connection(NAMED, TIMEOUTS)
    assert connection.address == at(raw_cluster.port)
    connection.close()


def test_a_health_check_uses_the_current_address(
    raw_cluster: RawCluster, installed_resolver: Resolver, names: Names
) -> None:
    names.answer = (at(free_port()),)
    assert problem_of(NAMED, "/health") == "connection refused"
    raw_cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    names.answer = (at(raw_cluster.port),)

    assert problem_of(NAMED, "/health") is None


def test_a_probe_uses_the_current_address(
    raw_cluster: RawCluster, installed_resolver: Resolver, names: Names, clock: Clock, empty_redis: Redis
) -> None:
    names.answer = (at(free_port()),)
    installed_resolver.addresses(NAMED)
    state = InstanceState("core", NAMED, BreakerRule(), clock)
    state.breaker.open(1)
    names.answer = (at(raw_cluster.port),)
    clock.now += 2

    assert state.begin()
    assert installed_resolver.addresses(NAMED) == (at(raw_cluster.port),)


def test_a_probe_waits_a_limited_time_for_a_slow_lookup(resolver: Resolver, names: Names) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    started = time.monotonic()
    resolver.renew(NAMED, within=0.1)

    assert time.monotonic() - started < 10
    assert resolver.addresses(NAMED) == (at(1),)
    names.waits_for.set()


@pytest.mark.parametrize("host", ["core.test", "127.0.0.1"])
def test_a_probe_looks_up_neither_unknown_names_nor_ip_addresses(resolver: Resolver, names: Names, host: str) -> None:
    instance = Instance("http", host, 80)
    resolver.renew(instance, within=1)
    resolver.addresses(instance)
    if host != "core.test":
        resolver.renew(instance, within=1)

    assert names.lookups == 1
