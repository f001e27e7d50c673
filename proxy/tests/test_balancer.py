"""The choice of an instance, and the error when none is available."""

from collections import Counter

import pytest

from lucid_gateway.policy.errors import CircuitOpen
from proxy.choosing.balancer import choose, no_instance_error
from proxy.choosing.breaker import BreakerRule
from proxy.choosing.instances import InstanceState
from proxy.clusters import Cluster, Instance
from proxy.tests.test_breaker import Clock

RULE = BreakerRule(consecutive_failures=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster("some_cluster", "some-service", "SOME_URL", instances=tuple(instance(port) for port in (1, 2, 3)))


@pytest.fixture
def states(cluster: Cluster, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[InstanceState]:
    """Three available, idle instances."""
    states = [InstanceState(cluster.name, instance, RULE, clock) for instance in cluster.instances]
    monkeypatch.setattr("proxy.choosing.balancer.states_of", lambda _: tuple(states))
    return states


def instance(port: int) -> Instance:
    return Instance("http", "127.0.0.1", port)


def begin_requests(cluster: Cluster, times: int) -> Counter[int]:
    """Begin requests that stay in progress; return how many went to each port."""
    ports: Counter[int] = Counter()
    for _ in range(times):
        state = choose(cluster)
        assert state is not None
        assert state.begin() is not None
        ports[state.instance.port] += 1
    return ports


def test_requests_take_turns(cluster: Cluster, states: list[InstanceState]) -> None:
    assert begin_requests(cluster, 9) == {1: 3, 2: 3, 3: 3}


def test_the_instance_with_the_fewest_requests_under_way_is_chosen(
    cluster: Cluster, states: list[InstanceState]
) -> None:
    states[0].in_flight, states[1].in_flight, states[2].in_flight = 5, 3, 4
    assert begin_requests(cluster, 6) == {1: 1, 2: 3, 3: 2}


def test_a_slow_instance_gets_fewer_requests(cluster: Cluster, states: list[InstanceState]) -> None:
    for _ in range(30):
        state = choose(cluster)
        assert state is not None
        attempt = state.begin()
        if state is not states[0] and attempt:
            attempt.answered(200)
            attempt.end()
    assert states[0].requests == 1


def test_instances_already_tried_are_skipped(cluster: Cluster, states: list[InstanceState]) -> None:
    assert choose(cluster, states[:2]) is states[2]
    assert choose(cluster, states) is None


def test_an_instance_with_an_open_breaker_is_skipped_until_its_probe(
    cluster: Cluster, states: list[InstanceState], clock: Clock
) -> None:
    states[0].breaker.failed(no_answer=True)
    assert 1 not in begin_requests(cluster, 6)
    clock.now += RULE.first_pause
    assert begin_requests(cluster, 1) == {1: 1}


def test_unhealthy_instances_are_skipped_while_one_is_healthy(cluster: Cluster, states: list[InstanceState]) -> None:
    states[0].healthy = states[1].healthy = False
    assert begin_requests(cluster, 4) == {3: 4}


def test_all_instances_are_candidates_if_none_is_healthy(cluster: Cluster, states: list[InstanceState]) -> None:
    for state in states:
        state.healthy = False
    assert begin_requests(cluster, 3) == {1: 1, 2: 1, 3: 1}


def test_a_recovered_instance_starts_slowly(cluster: Cluster, states: list[InstanceState], clock: Clock) -> None:
    states[0].set_health(False)
    states[0].set_health(True)

    def share() -> float:
        chosen = [choose(cluster) for _ in range(3000)]
        return chosen.count(states[0]) / len(chosen)

    for state in states:
        state.in_flight = 0 if state is states[0] else 1
    clock.now += 1
    assert 0.015 < share() < 0.055  # a tenth of a third, though the others have more in progress
    clock.now += 4
    assert 0.12 < share() < 0.21
    clock.now += 5
    assert share() == 1


def test_without_an_instance_retry_after_is_the_time_to_the_first_probe(
    cluster: Cluster, states: list[InstanceState], clock: Clock
) -> None:
    for state in states:
        clock.now += 1.4
        state.breaker.failed(no_answer=True)
    assert choose(cluster) is None
    error = no_instance_error(cluster)
    assert isinstance(error, CircuitOpen)
    assert error.headers == {"Retry-After": "3"}  # of 2.2 seconds
