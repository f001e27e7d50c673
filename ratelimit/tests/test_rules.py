"""Rules at run time: which limits apply to a subject, and which rule to an address."""

import ipaddress
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st
from pytest_django.fixtures import Settings

from ratelimit import rules
from ratelimit.client_address import parse
from ratelimit.engine.limits import default_byte_limit, default_limit
from ratelimit.models import AddressRule, LimitRule, as_network
from ratelimit.rules import (
    AddressTable,
    RefusalCounts,
    Rules,
    address_verdict,
    byte_limit_for,
    limit_for,
    refusals,
    refusing_verdict,
    rules_cache,
    table_of,
)
from testing.parallel import in_parallel

USER, OTHER, KEY = f"user:{'0' * 36}", f"user:{'1' * 36}", "key:abcdefghijkl"
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@pytest.fixture(autouse=True)
def nothing_refused_yet() -> Iterator[None]:
    refusals.counts = {}
    yield
    refusals.counts = {}
    default_limit.cache_clear()
    default_byte_limit.cache_clear()


def limits(*found: LimitRule) -> None:
    """Let the process hold these rules."""
    rules_cache.current = Rules({(rule.tier, rule.subject): rule for rule in found})


def networks(*found: str, **fields: Any) -> None:
    """Let the process hold a rule for each of the networks."""
    fields = {"kind": "deny"} | fields
    rules_cache.current = Rules(addresses=table_of(AddressRule(network=network, **fields) for network in found))


def numbers(name: str, *subjects: str) -> tuple[int, int]:
    found = limit_for(name, *subjects)
    return found.requests_per_minute, found.burst_size


def totals(*subjects: str, name: str = "authenticated") -> tuple[int, int]:
    found = limit_for(name, *subjects)
    return found.concurrent_requests, found.daily_quota


# Which limits apply


def test_without_rules_the_environments_limits_apply() -> None:
    assert limit_for("authenticated", USER) is default_limit("authenticated")
    assert byte_limit_for(USER) is default_byte_limit()


def test_a_subjects_rule_precedes_the_rule_for_everyone_which_precedes_the_environment() -> None:
    limits(
        LimitRule(tier="authenticated", subject=USER, limit=7, burst=3),
        LimitRule(tier="authenticated", limit=50, burst=5),
    )

    assert numbers("authenticated", USER) == (7, 3)
    assert numbers("authenticated", OTHER) == (50, 5)
    assert numbers("authenticated") == (50, 5)
    assert numbers("blockchain_query", USER) == (500, 1_000)


def test_the_rule_of_the_first_subject_that_has_one_applies() -> None:
    limits(LimitRule(tier="admin", subject=USER, limit=7), LimitRule(tier="admin", subject=KEY, limit=9))

    assert numbers("admin", KEY, USER)[0] == 9
    assert numbers("admin", OTHER, USER)[0] == 7


@pytest.mark.parametrize(
    ("given", "expected"), [({"limit": 7}, (7, 2_000)), ({"burst": 0}, (1_000, 0)), ({}, (1_000, 2_000))]
)
def test_a_field_that_a_rule_leaves_empty_is_unchanged(given: dict[str, int], expected: tuple[int, int]) -> None:
    limits(LimitRule(tier="authenticated", subject=USER, **given))

    assert numbers("authenticated", USER) == expected


def test_quota_and_concurrency_come_from_the_rule_for_all_tiers() -> None:
    limits(
        LimitRule(tier="all", subject=USER, concurrent_requests=2, daily_quota=9), LimitRule(tier="all", daily_quota=5)
    )

    assert totals(USER) == totals(USER, name="blockchain_query") == (2, 9)
    assert totals(OTHER) == (0, 5)
    assert numbers("authenticated", USER) == (1_000, 2_000)


def test_a_rule_can_remove_the_environments_quota_for_one_subject(settings: Settings) -> None:
    update = {"RATE_LIMIT_DAILY_QUOTA": 100, "RATE_LIMIT_CONCURRENT_REQUESTS": 5}
    settings.ENV = settings.ENV.model_copy(update=update)
    default_limit.cache_clear()
    limits(LimitRule(tier="all", subject=USER, daily_quota=0))

    assert (totals(USER), totals(OTHER)) == ((5, 0), (5, 100))


@pytest.mark.parametrize("name", ["public", "login_attempt"])
def test_quota_and_concurrency_apply_to_users_and_keys_not_to_addresses(settings: Settings, name: str) -> None:
    limits(LimitRule(tier="all", concurrent_requests=2, daily_quota=9))

    assert totals(name=name) == (0, 0)
    assert totals(USER) == (2, 9)


def test_shadow_mode_is_separate_for_rate_and_totals() -> None:
    limits(LimitRule(tier="authenticated", observe_only=True), LimitRule(tier="all", subject=USER, daily_quota=1))
    of_user, of_other = limit_for("authenticated", USER), limit_for("authenticated", OTHER)

    assert (of_user.observe_only, of_user.observe_totals, of_other.observe_only) == (True, False, True)
    limits(LimitRule(tier="all", subject=USER, observe_only=True))
    assert (limit_for("admin", USER).observe_only, limit_for("admin", USER).observe_totals) == (False, True)


def test_a_rule_ends_the_environments_shadow_mode_for_its_subject(settings: Settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"RATE_LIMIT_OBSERVE_ONLY": ("authenticated",)})
    default_limit.cache_clear()
    limits(LimitRule(tier="authenticated", subject=USER, limit=7))

    assert limit_for("authenticated", OTHER).observe_only
    assert not limit_for("authenticated", USER).observe_only


def test_upload_limits_are_in_bytes() -> None:
    limits(
        LimitRule(tier="chunk_upload", subject=USER, limit=1_000, burst=0, observe_only=True),
        LimitRule(tier="chunk_upload", burst=5_000),
    )
    of_user, of_other = byte_limit_for(USER), byte_limit_for(OTHER)

    assert (of_user.bytes_per_second, of_user.burst_bytes, of_user.observe_only) == (1_000, 0, True)
    assert (of_other.bytes_per_second, of_other.burst_bytes, of_other.observe_only) == (10_485_760, 5_000, False)


def test_an_upload_rule_does_not_limit_requests() -> None:
    limits(LimitRule(tier="chunk_upload", limit=1_000, burst=10), LimitRule(tier="all", daily_quota=9))

    assert numbers("chunk_upload", USER) == (0, 0)
    assert totals(USER, name="chunk_upload") == (0, 9)


# Reading the rules


def make_limit(**fields: Any) -> LimitRule:
    return LimitRule.objects.create(**{"tier": "authenticated"} | fields)


def make_address(network: str, **fields: Any) -> AddressRule:
    return AddressRule.objects.create(**{"network": network, "kind": "deny", "reason": "why"} | fields)


def test_a_worker_reads_the_rules_in_force(db: None) -> None:
    past, future = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(hours=1)
    make_limit(subject=USER, limit=7, expires_at=past)
    make_limit(subject=OTHER, limit=8, expires_at=future)
    make_limit(limit=9)
    make_address("192.0.2.1/32", expires_at=past)
    make_address("192.0.2.2/32", expires_at=future)
    make_address("192.0.2.3/32")

    rules_cache.load()

    assert [numbers("authenticated", subject)[0] for subject in (USER, OTHER, KEY)] == [9, 8, 9]
    assert [address_verdict(f"192.0.2.{number}") is not None for number in (1, 2, 3)] == [False, True, True]
    assert len(rules_cache.current.addresses.networks[4, 32]) == 2


def test_a_deleted_rule_no_longer_applies(db: None) -> None:
    make_limit(limit=9)
    make_address("192.0.2.0/24")
    rules_cache.load()
    LimitRule.objects.all().delete()
    AddressRule.objects.all().delete()
    rules_cache.load()

    assert limit_for("authenticated") is default_limit("authenticated")
    assert address_verdict("192.0.2.1") is None


def test_a_rule_expires_on_time_without_another_read() -> None:
    ends = timezone.now() + timedelta(seconds=0.5)
    narrow = AddressRule(network="192.0.2.1/32", kind="allow", expires_at=ends)
    rules_cache.current = Rules(addresses=table_of([AddressRule(network="192.0.2.0/24", kind="deny"), narrow]))
    asked = [address_verdict("192.0.2.1")]
    while timezone.now() <= ends:
        asked.append(address_verdict("192.0.2.1"))
    asked.append(address_verdict("192.0.2.1"))

    assert [verdict.kind for verdict in (asked[0], asked[-1]) if verdict] == ["allow", "deny"]


def test_a_limit_expires_without_another_read_and_the_next_rule_applies() -> None:
    past, future = timezone.now() - timedelta(seconds=1), timezone.now() + timedelta(hours=1)
    limits(
        LimitRule(tier="authenticated", subject=KEY, limit=6, expires_at=past),
        LimitRule(tier="authenticated", subject=USER, limit=7, expires_at=future),
        LimitRule(tier="chunk_upload", subject=USER, limit=1_000, expires_at=past),
        LimitRule(tier="all", daily_quota=9, expires_at=past),
    )

    assert numbers("authenticated", KEY, USER) == (7, 2_000)
    assert byte_limit_for(USER) == default_byte_limit()
    assert totals(USER) == (0, 0)


# Which rule applies to an address


@pytest.mark.parametrize(
    ("network", "spelling"),
    [
        ("192.0.2.1", "192.0.2.1/32"),
        (" 192.0.2.99/24 ", "192.0.2.0/24"),
        ("2001:DB8:0::1", "2001:db8::1/128"),
        ("2001:db8::1/64", "2001:db8::/64"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::/0", "::/0"),
    ],
)
def test_a_network_has_one_canonical_form(network: str, spelling: str) -> None:
    assert as_network(network) == spelling


@pytest.mark.parametrize("text", ["", "nonsense", "192.0.2", "192.0.2.1/33", "192.0.2.0/24/1", "1"])
def test_anything_else_is_not_a_network(text: str) -> None:
    with pytest.raises(ValidationError):
        as_network(text)


def test_an_ipv4_mapped_address_is_the_ipv4_address() -> None:
    networks(as_network("::ffff:192.0.2.0/120"))

    assert address_verdict("192.0.2.7") == address_verdict("::ffff:192.0.2.7") is not None


@pytest.mark.parametrize("address", ["", "unknown", "192.0.2", "garbage"])
def test_an_invalid_address_has_no_verdict(address: str) -> None:
    networks("0.0.0.0/0", "::/0")

    assert address_verdict(address) is None


V4 = st.builds(ipaddress.ip_network, st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 32)), st.just(False))
V6 = st.builds(ipaddress.ip_network, st.tuples(st.integers(2**32, 2**128 - 1), st.integers(0, 128)), st.just(False))


@st.composite
def near(draw: st.DrawFn, found: list[Network]) -> str:
    """Draw an address at the edge of one of the networks, inside it, or anywhere."""
    if not found or draw(st.booleans()):
        return str(draw(st.ip_addresses()))
    network = draw(st.sampled_from(found))
    first, last = int(network.network_address), int(network.broadcast_address)
    number = draw(st.one_of(st.sampled_from([first - 1, first, last, last + 1]), st.integers(first, last)))
    most = 2**network.max_prefixlen - 1
    kind = ipaddress.IPv4Address if network.version == 4 else ipaddress.IPv6Address
    address = kind(min(max(number, 0), most))
    dress = address.version == 4 and draw(st.booleans())
    return f"::ffff:{address}" if dress else str(address)


@given(data=st.data(), found=st.lists(st.one_of(V4, V6), max_size=12, unique=True))
def test_the_narrowest_network_that_contains_an_address_applies(data: st.DataObject, found: list[Network]) -> None:
    table = table_of(AddressRule(network=str(network), kind="deny") for network in found)
    for text in data.draw(st.lists(near(found), min_size=1, max_size=8)):
        address = parse(text)
        assert address is not None
        holding = [network for network in found if network.version == address.version and address in network]
        narrowest = max(holding, key=lambda network: network.prefixlen, default=None)

        verdicts = [table.find(text), table.find(text), table.search(text)]  # looked up, remembered, looked up
        assert [verdict and verdict.network for verdict in verdicts] == [narrowest and str(narrowest)] * 3


def test_a_bounded_number_of_addresses_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MAX_REMEMBERED", 100)
    networks("192.0.2.0/24")
    table = rules_cache.current.addresses

    for number in range(1_000):
        address_verdict(f"198.51.100.{number % 250}.{number}")
        address_verdict(f"2001:db8::{number:x}")
        assert len(table.remembered) <= 100


def test_without_networks_nothing_is_remembered() -> None:
    assert AddressTable().find("192.0.2.1") is None
    assert AddressTable().remembered == {}


# Counting refusals


def test_only_denied_and_blocked_networks_are_refused() -> None:
    for kind, is_refused in (("allow", False), ("halved", False), ("deny", True), ("blocked", True)):
        networks("192.0.2.0/24", kind=kind)
        assert (refusing_verdict("192.0.2.1") is not None) is is_refused
    assert refusing_verdict("198.51.100.1") is None
    assert refusals.counts == {"192.0.2.0/24": 2}


def test_refusals_are_added_to_their_row_exactly_once(db: None) -> None:
    make_address("192.0.2.0/24", refused=5)
    make_address("198.51.100.0/24")
    rules_cache.load()
    for number in range(7):
        refusing_verdict(f"192.0.2.{number}")
    refusing_verdict("198.51.100.1")

    for _ in range(3):
        refusals.write()

    assert dict(AddressRule.objects.values_list("network", "refused")) == {"192.0.2.0/24": 12, "198.51.100.0/24": 1}


def test_the_refusals_of_all_workers_are_added_up(transactional_db: None) -> None:
    make_address("192.0.2.0/24")
    workers = [RefusalCounts() for _ in range(8)]
    for worker in workers:
        worker.counts = {"192.0.2.0/24": 10}

    in_parallel(8, lambda index: workers[index].write())

    assert AddressRule.objects.get().refused == 80


def test_refusals_survive_an_outage_of_the_database(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_address("192.0.2.0/24")
    make_address("198.51.100.0/24")
    rules_cache.load()
    refusing_verdict("192.0.2.1")
    refusing_verdict("198.51.100.1")

    def fail(*_: Any, **__: Any) -> None:
        refusing_verdict("192.0.2.2")  # during the attempt
        raise DatabaseError

    with monkeypatch.context() as patch:
        patch.setattr("django.db.models.QuerySet.update", fail)
        with pytest.raises(DatabaseError):
            refusals.write()
    refusals.write()

    assert dict(AddressRule.objects.values_list("network", "refused")) == {"192.0.2.0/24": 2, "198.51.100.0/24": 1}


def test_the_refusals_of_a_lifted_rule_are_dropped(db: None) -> None:
    make_address("192.0.2.0/24")
    rules_cache.load()
    refusing_verdict("192.0.2.1")
    AddressRule.objects.all().delete()

    refusals.write()

    assert refusals.counts == {}
