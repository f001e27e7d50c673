"""Names of instances: looked up again, followed where they lead, kept while nobody can say."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis

from lucid_gateway.policy.routes import Timeouts
from proxy.choosing.breaker import BreakerRule
from proxy.choosing.health_checks import answers
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
    """A resolver's server: what the one name leads to, or an error."""

    def __init__(self) -> None:
        self.answer: tuple[Address, ...] | OSError = (at(1),)
        self.asked = 0
        self.waits_for = threading.Event()
        self.waits_for.set()

    def __call__(self, host: str, port: int) -> tuple[Address, ...]:
        self.asked += 1
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
def in_use(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> Resolver:
    """The resolver, as connections and pools use it."""
    monkeypatch.setattr("proxy.connection.upstream.resolver", resolver)
    monkeypatch.setattr("proxy.connection.pool.resolver", resolver)
    monkeypatch.setattr("proxy.choosing.instances.resolver", resolver)
    monkeypatch.setattr("proxy.choosing.health_checks.resolver", resolver)
    return resolver


def until_it_leads_to(resolver: Resolver, *addresses: Address) -> None:
    wait_until(lambda: resolver.addresses(NAMED) == addresses)


def test_a_name_is_asked_for_once_while_it_is_fresh(resolver: Resolver, names: Names, clock: Clock) -> None:
    for _ in range(10):
        assert resolver.addresses(NAMED) == (at(1),)
    clock.now += FRESH_SECONDS
    assert resolver.addresses(NAMED) == (at(1),)
    assert names.asked == 1


def test_a_change_is_followed(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.answer = (at(2), at(3))
    clock.now += FRESH_SECONDS + 0.1
    until_it_leads_to(resolver, at(2), at(3))


def test_nobody_waits_for_a_slow_resolver_that_answered_before(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    clock.now += FRESH_SECONDS + 0.1
    assert [resolver.addresses(NAMED) for _ in range(50)] == [(at(1),)] * 50
    names.waits_for.set()
    assert names.asked == 2


def test_a_resolver_that_hangs_is_not_asked_again_meanwhile(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    for _ in range(10):
        clock.now += FRESH_SECONDS + 0.1
        resolver.addresses(NAMED)
    assert names.asked == 2
    names.waits_for.set()


@pytest.mark.parametrize("answer", [(at(1),), OSError("no such name")])
def test_many_who_ask_first_ask_once(resolver: Resolver, names: Names, answer: tuple[Address, ...] | OSError) -> None:
    names.answer = answer
    names.waits_for.clear()
    with ThreadPoolExecutor(20) as pool:
        asked = [pool.submit(resolver.addresses, NAMED) for _ in range(20)]
        time.sleep(0.2)
        names.waits_for.set()
    assert {one.exception() or one.result() for one in asked} == {answer}
    assert names.asked == 1


def test_what_was_known_stays_while_nobody_can_say(resolver: Resolver, names: Names, clock: Clock) -> None:
    resolver.addresses(NAMED)
    names.answer = OSError("no resolver")
    for _ in range(3):
        clock.now += FRESH_SECONDS + 0.1
        assert resolver.addresses(NAMED) == (at(1),)


def test_a_name_that_never_led_anywhere_is_an_error_each_time(resolver: Resolver, names: Names) -> None:
    names.answer = OSError("no such name")
    for _ in range(2):
        with pytest.raises(OSError, match="no such name"):
            resolver.addresses(NAMED)
    names.answer = (at(1),)
    assert resolver.addresses(NAMED) == (at(1),)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_an_address_is_never_asked_for_again(resolver: Resolver, names: Names, clock: Clock, host: str) -> None:
    literal = Instance("http", host, 80)
    for _ in range(3):
        resolver.addresses(literal)
        clock.now += FRESH_SECONDS + 0.1
    assert names.asked == 1


def test_the_system_resolves_names_and_literals() -> None:
    assert at(80) in look_up("localhost", 80)
    assert look_up("127.0.0.1", 80) == (at(80),)
    assert look_up("::1", 80)[0][1][:2] == ("::1", 80)


def test_a_kept_connection_to_where_the_name_led_before_is_not_used_again(
    raw_cluster: RawCluster, in_use: Resolver, names: Names, clock: Clock
) -> None:
    pool = Pool(NAMED)
    names.answer = (at(raw_cluster.port),)
    first = use(pool.take(TIMEOUTS))
    pool.give_back(first)
    with RawCluster() as moved:
        names.answer = (at(moved.port),)
        clock.now += FRESH_SECONDS + 0.1
        until_it_leads_to(in_use, at(moved.port))
        second = use(pool.take(TIMEOUTS))
        assert (len(raw_cluster.requests), len(moved.requests)) == (1, 1)
        assert first.sock.fileno() == -1
        second.close()


def test_of_several_addresses_another_is_tried_when_one_refuses(
    raw_cluster: RawCluster, in_use: Resolver, names: Names
) -> None:
    names.answer = (at(free_port()), at(raw_cluster.port))
    connection = upstream.Connection(NAMED, TIMEOUTS)
    assert connection.address == at(raw_cluster.port)
    connection.close()


def test_a_health_check_asks_where_the_name_leads_now(raw_cluster: RawCluster, in_use: Resolver, names: Names) -> None:
    names.answer = (at(free_port()),)
    assert not answers(NAMED, "/health")
    raw_cluster.behaviour = saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    names.answer = (at(raw_cluster.port),)

    assert answers(NAMED, "/health")


def test_the_probe_of_an_open_breaker_goes_where_the_name_leads_now(
    raw_cluster: RawCluster, in_use: Resolver, names: Names, clock: Clock, empty_redis: Redis
) -> None:
    names.answer = (at(free_port()),)
    in_use.addresses(NAMED)
    state = InstanceState("core", NAMED, BreakerRule(), clock)
    state.breaker.open(1)
    names.answer = (at(raw_cluster.port),)
    clock.now += 2

    assert state.begin()
    assert in_use.addresses(NAMED) == (at(raw_cluster.port),)


def test_a_probe_waits_for_a_slow_resolver_only_so_long(resolver: Resolver, names: Names) -> None:
    resolver.addresses(NAMED)
    names.waits_for.clear()
    started = time.monotonic()
    resolver.renew(NAMED, within=0.1)

    assert time.monotonic() - started < 10
    assert resolver.addresses(NAMED) == (at(1),)
    names.waits_for.set()


@pytest.mark.parametrize("host", ["core.test", "127.0.0.1"])
def test_what_was_never_looked_up_and_an_address_are_not_asked_for_by_a_probe(
    resolver: Resolver, names: Names, host: str
) -> None:
    instance = Instance("http", host, 80)
    resolver.renew(instance, within=1)
    resolver.addresses(instance)
    if host != "core.test":
        resolver.renew(instance, within=1)

    assert names.asked == 1
