"""What a worker counts of each request, and how it divides the time."""

from types import SimpleNamespace
from typing import Any

import pytest

from lucid_gateway.kernel.record import AttemptRecord, Claim, Outcome, RequestRecord
from lucid_gateway.policy.errors import RateLimited, UpstreamTimeout
from lucid_gateway.server import samples
from lucid_gateway.server.samples import MAX_CLOSED, MAX_OFFENDERS, Samples, count, count_request

KEY = Claim("api_key", "k1", "u1")


class Clock:
    now = 1_000_000_000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(samples, "time", SimpleNamespace(time=lambda: clock.now))
    return clock


@pytest.fixture(autouse=True)
def counted(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Samples:
    own = Samples()
    monkeypatch.setattr(samples, "samples", own)
    return own


def groups(counted: Samples) -> dict[str, Any]:
    """Return the only sample's groups."""
    [sample] = counted.take()
    return {group: dict(names) for group, names in sample.groups.items()}


def record(**fields: Any) -> RequestRecord:
    made = RequestRecord(client_address="192.0.2.7")
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_an_answered_request_counts_by_status_route_and_duration(counted: Samples) -> None:
    count_request(record(route="api/v1/users"), 200, 0.001)
    count_request(record(route="api/v1/users"), 404, 0.001)  # by the endpoint's cluster: the gateway refused nothing

    assert groups(counted) == {"statuses": {"2xx": 1, "4xx": 1}, "routes": {"api/v1/users": 2}, "seconds": {"4": 2}}


def test_a_refused_request_counts_for_everybody_who_may_have_caused_it(counted: Samples) -> None:
    refused = record(route="api/v1/chain/info", claim=KEY)
    refused.refused(RateLimited(retry_after=1, reason="tier_exhausted"))
    count_request(refused, 429, 0.001)

    found = groups(counted)
    assert found["refused"] == {"tier_exhausted": 1}
    assert found["routes.refused"] == {"api/v1/chain/info": 1}
    assert {group: names for group, names in found.items() if group.startswith("offenders")} == {
        "offenders.address": {"192.0.2.7 tier_exhausted": 1},
        "offenders.network": {"192.0.2.0/24 tier_exhausted": 1},
        "offenders.user": {"u1 tier_exhausted": 1},
        "offenders.key": {"k1 tier_exhausted": 1},
    }


def test_the_user_of_a_login_is_not_blamed_for_guesses(counted: Samples) -> None:
    guessed = record(claim=Claim("login", "", "u1"))
    guessed.refused(RateLimited(retry_after=1, reason="too_many_attempts"))
    count_request(guessed, 429, 0.001)

    found = groups(counted)
    assert "offenders.address" in found
    assert "offenders.user" not in found


def test_a_key_is_not_blamed_for_wrong_secrets_of_others(counted: Samples) -> None:
    guessed = record(claim=Claim("api_key", "k1"))
    guessed.refused(RateLimited(retry_after=1, reason="api_key_unknown"))
    count_request(guessed, 429, 0.001)

    found = groups(counted)
    assert "offenders.address" in found
    assert "offenders.key" not in found


def test_an_ipv6_address_counts_for_its_48(counted: Samples) -> None:
    refused = record(client_address="2001:db8:1:2::3")
    refused.refused(RateLimited(retry_after=1, reason="tier_exhausted"))
    count_request(refused, 429, 0.001)

    assert groups(counted)["offenders.network"] == {"2001:db8:1::/48 tier_exhausted": 1}


def test_a_request_before_the_application_has_no_duration(counted: Samples) -> None:
    refused = record()
    refused.refused(RateLimited(retry_after=1, reason="address_blocked"))
    count_request(refused, 429, None)

    found = groups(counted)
    assert "seconds" not in found
    assert (found["statuses"], found["refused"]) == ({"4xx": 1}, {"address_blocked": 1})


def test_each_attempt_counts_at_its_instance(counted: Samples) -> None:
    attempts = [
        AttemptRecord("http://a", outcome="instance_timeout"),
        AttemptRecord("http://b", None, 1, 24, "answered"),
    ]
    count_request(record(cluster="core", attempts=attempts), 200, 0.03)

    found = groups(counted)
    assert found["clusters"] == {"core": 1}
    assert "clusters.failed" not in found
    assert found["instances"] == {"core http://a": 1, "core http://b": 1}
    assert found["instances.failed"] == {"core http://a": 1}
    assert found["first_byte core http://b"] == {"22": 1}


def test_a_failed_request_counts_by_reason_and_route_and_blames_nobody(counted: Samples) -> None:
    failed = record(cluster="core", route="api/v1/chain/info", attempts=[AttemptRecord("http://a", outcome="x")])
    failed.refused(UpstreamTimeout(reason="instance_timeout"))
    count_request(failed, 504, 5.0)

    found = groups(counted)
    assert found["failed"] == {"instance_timeout": 1}
    assert found["failed.routes"] == {"instance_timeout api/v1/chain/info": 1}
    assert (found["routes.failed"], found["clusters.failed"]) == ({"api/v1/chain/info": 1}, {"core": 1})
    assert not [group for group in found if group.startswith("offenders")]


def test_an_error_of_the_instance_itself_is_a_failure(counted: Samples) -> None:
    count_request(record(cluster="core", attempts=[AttemptRecord("http://a", outcome="answered")]), 500, 0.1)

    found = groups(counted)
    assert found["failed"] == {"instance_error": 1}
    assert found["instances.failed"] == {"core http://a": 1}


@pytest.mark.parametrize(("status", "cut", "failed"), [(200, True, True), (200, False, False), (499, False, False)])
def test_a_client_that_left_is_no_failure_and_a_cut_answer_is_one(
    counted: Samples, status: int, cut: bool, failed: bool
) -> None:
    left = record()
    left.ended("instance_answer_cut" if cut else "client_left", Outcome.FAILED)
    left.reason = "instance_answer_cut" if cut else "client_left"
    count_request(left, status, 0.1, cut=cut)

    found = groups(counted)
    assert ("failed" in found, "refused" in found) == (failed, False)


def test_offenders_above_the_maximum_are_counted_together(counted: Samples) -> None:
    for number in range(MAX_OFFENDERS + 7):
        refused = record(client_address=f"10.0.{number // 250}.{number % 250}")
        refused.refused(RateLimited(retry_after=1, reason="tier_exhausted"))
        count_request(refused, 429, 0.001)

    found = groups(counted)["offenders.address"]
    assert (len(found), found["*"]) == (MAX_OFFENDERS + 1, 7)


def test_other_code_counts_under_its_own_names(counted: Samples) -> None:
    count("left_out", "too_many", 3)
    count("left_out", "too_many")

    assert groups(counted) == {"left_out": {"too_many": 4}}


def test_samples_begin_at_whole_ten_seconds(counted: Samples, clock: Clock) -> None:
    clock.now = 1_000_000_007.5
    count("a", "b")
    clock.now = 1_000_000_010.0
    count("a", "b", 5)

    assert [(sample.start, sample.groups["a"]["b"]) for sample in counted.take()] == [
        (1_000_000_000, 1), (1_000_000_010, 5)
    ]  # fmt: skip
    assert counted.take() == []


def test_a_clock_that_is_set_back_loses_nothing(counted: Samples, clock: Clock) -> None:
    count("a", "b")
    clock.now -= 3_600
    count("a", "b")

    assert [sample.start for sample in counted.take()] == [1_000_000_000, 1_000_000_000 - 3_600]


def test_of_too_many_waiting_samples_the_oldest_are_lost_and_counted(counted: Samples, clock: Clock) -> None:
    for _ in range(MAX_CLOSED + 3):
        count("a", "b")
        clock.now += 10
    taken = counted.take() + counted.take()

    lost = sum(sample.groups.get("figures", {}).get("samples_lost", 0) for sample in taken)
    kept = sum(sample.groups["a"]["b"] for sample in taken if "a" in sample.groups)
    assert kept + lost == MAX_CLOSED + 3


def test_samples_without_space_are_taken_again(counted: Samples, clock: Clock) -> None:
    count("a", "b")
    taken = counted.take()
    count("a", "b", 2)
    counted.put_back(taken)

    assert [sample.groups["a"]["b"] for sample in counted.take()] == [1, 2]
