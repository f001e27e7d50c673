"""Floods of bad tokens and API keys: an address that exceeds its limit costs only a few checks a second."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from accounts import api_keys, authentication
from accounts.api_keys import create_api_key, known_keys
from accounts.models import ApiKey, User
from accounts.tests.forge import forge
from accounts.tokens.issuing import TokenPair, issue_tokens
from conftest import ApiClient, error_code
from ratelimit.addresses import floods as module
from ratelimit.addresses.floods import CHECKS_PER_SECOND, Floods, floods
from ratelimit.engine.limits import default_limit

HERE, ELSEWHERE = "192.0.2.5", "198.51.100.5"


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.5

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def checks(found: Floods, address: str = HERE, times: int = 20) -> int:
    return sum(found.may_check(address) for _ in range(times))


def test_without_a_flood_everything_is_checked(clock: Clock) -> None:
    assert checks(Floods()) == 20


def test_in_a_flood_a_few_credentials_a_second_are_checked(clock: Clock) -> None:
    found = Floods()
    found.note(HERE, clock.now + 30)

    assert checks(found) == CHECKS_PER_SECOND
    clock.now += 1
    assert checks(found) == CHECKS_PER_SECOND
    assert checks(found, ELSEWHERE) == 20


def test_a_flood_ends_with_its_window(clock: Clock) -> None:
    found = Floods()
    found.note(HERE, clock.now + 30)
    clock.now += 30

    assert checks(found) == 20
    assert not found._floods


def test_noting_a_flood_again_extends_it_and_adds_no_checks(clock: Clock) -> None:
    found = Floods()
    found.note(HERE, clock.now + 1)
    checks(found)
    found.note(HERE, clock.now + 60)

    assert checks(found) == 0
    clock.now += 5
    assert checks(found) == CHECKS_PER_SECOND


def test_a_bounded_number_of_floods_is_remembered(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ADDRESSES", 3)
    found = Floods()
    for number in range(10):
        found.note(f"192.0.2.{number}", clock.now + 60)

    assert list(found._floods) == ["192.0.2.7", "192.0.2.8", "192.0.2.9"]


# Over the API


@pytest.fixture
def small_tier(settings: Settings, frozen_minute: int) -> Iterator[None]:
    """The public tier allows 3 requests a minute, and a burst of 1."""
    update = {"RATE_LIMIT_REQUESTS_PER_MINUTE": 3, "RATE_LIMIT_BURST_SIZE": 1}
    settings.ENV = settings.ENV.model_copy(update=update)
    default_limit.cache_clear()
    yield
    default_limit.cache_clear()


@pytest.fixture
def checked(small_tier: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which signatures were checked, in seconds since the epoch."""
    times: list[float] = []
    read = authentication.read_access_token

    def read_and_note(text: str) -> Any:
        times.append(time.time())
        return read(text)

    monkeypatch.setattr(authentication, "read_access_token", read_and_note)
    return times


def send_invalid_tokens(api: ApiClient, user: User, times: int, address: str = HERE) -> list[int]:
    """Send `times` different well-formed but invalid tokens; return the statuses."""
    return [
        api.send("get", "/users/me", token=forge(user, secret=uuid.uuid4().hex), REMOTE_ADDR=address).status_code
        for _ in range(times)
    ]


def most_in_a_second(times: list[float]) -> int:
    """Return the highest number of times within one second."""
    seconds = [int(at) for at in times]
    return max(map(seconds.count, seconds))


def me(api: ApiClient, token: str, address: str = HERE) -> Any:
    return api.send("get", "/users/me", token=token, REMOTE_ADDR=address)


def test_a_flood_costs_few_signature_checks(api: ApiClient, owner: User, checked: list[float]) -> None:
    assert send_invalid_tokens(api, owner, 5) == [401] * 4 + [429]
    before = len(checked)

    assert send_invalid_tokens(api, owner, 200) == [429] * 200
    assert before == 5
    assert most_in_a_second(checked[before:]) <= CHECKS_PER_SECOND


def test_the_addresses_of_a_64_are_one_flood(api: ApiClient, owner: User, checked: list[float]) -> None:
    statuses = [send_invalid_tokens(api, owner, 1, f"2001:db8::{number:x}")[0] for number in range(100)]

    assert statuses == [401] * 4 + [429] * 96
    assert most_in_a_second(checked[5:]) <= CHECKS_PER_SECOND


def test_a_known_token_is_accepted_during_a_flood(
    api: ApiClient, tokens: TokenPair, owner: User, checked: list[float]
) -> None:
    assert me(api, tokens.access).status_code == 200
    send_invalid_tokens(api, owner, 50)

    assert [me(api, tokens.access).status_code for _ in range(20)] == [200] * 20


def test_a_new_token_is_accepted_within_a_second_or_two(
    api: ApiClient, tokens: TokenPair, owner: User, checked: list[float]
) -> None:
    send_invalid_tokens(api, owner, 50)
    begun, passed = time.monotonic(), 0

    while passed != 200 and time.monotonic() - begun < 30:
        response = me(api, tokens.access)
        passed = response.status_code
        assert passed == 200 or error_code(response) == "3001"
        time.sleep(0.2)

    assert passed == 200
    assert time.monotonic() - begun < 10  # seconds; the flood lasts longer


def test_a_flood_does_not_affect_other_addresses(
    api: ApiClient, tokens: TokenPair, owner: User, node_operator: User, checked: list[float]
) -> None:
    send_invalid_tokens(api, owner, 50)

    assert me(api, tokens.access, ELSEWHERE).status_code == 200
    assert me(api, issue_tokens(node_operator).access, ELSEWHERE).status_code == 200


@pytest.fixture
def reads(small_tier: None, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times at which API keys were read from the database, in seconds since the epoch."""
    times: list[float] = []
    read = api_keys.read_key

    def read_and_note(*arguments: Any) -> Any:
        times.append(time.time())
        return read(*arguments)

    monkeypatch.setattr(api_keys, "read_key", read_and_note)
    return times


def send_unknown_keys(api: ApiClient, times: int) -> list[int]:
    """Send `times` different well-formed but unknown API keys; return the statuses."""
    return [by_key(api, f"lk_{'a' * 12}_{uuid.uuid4().hex:A<43}").status_code for _ in range(times)]


def expire_known_keys() -> None:
    """Make all cache entries of API keys expire."""
    for key_hash, (caller, _) in known_keys._callers.items():
        known_keys._callers[key_hash] = caller, 0.0


def by_key(api: ApiClient, key: str) -> Any:
    return api.send("get", "/users/me", headers={"X-API-Key": key}, REMOTE_ADDR=HERE)


def test_a_flood_of_unknown_api_keys_costs_few_queries(api: ApiClient, db: None, reads: list[float]) -> None:
    assert send_unknown_keys(api, 5) == [401] * 4 + [429]
    before = len(reads)

    assert send_unknown_keys(api, 60) == [429] * 60
    assert before == 5
    assert most_in_a_second(reads[before:]) <= CHECKS_PER_SECOND


def test_malformed_api_keys_cost_neither_queries_nor_checks(api: ApiClient, owner: User, reads: list[float]) -> None:
    send_unknown_keys(api, 5)
    before = len(reads)
    for _ in range(100):
        by_key(api, "lk_short")

    assert len(reads) == before
    assert by_key(api, create_api_key(owner, name="key", permissions=["user:read"])[1]).status_code == 200


def test_an_api_key_that_was_valid_a_minute_ago_is_accepted_during_a_flood(
    api: ApiClient, owner: User, reads: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = create_api_key(owner, name="key", permissions=["user:read"])[1]
    assert by_key(api, key).status_code == 200
    send_unknown_keys(api, 50)
    monkeypatch.setattr(floods, "may_check", lambda address: False)
    expire_known_keys()

    assert by_key(api, key).status_code == 200
    ApiKey.objects.update(revoked_at=timezone.now())
    expire_known_keys()
    before = len(reads)
    assert [by_key(api, key).status_code for _ in range(5)] == [429] * 5
    assert len(reads) == before + 1  # a revoked key counts as unknown


def test_after_the_window_every_credential_is_checked_again(
    api: ApiClient, tokens: TokenPair, owner: User, checked: list[float], empty_redis: Any
) -> None:
    send_invalid_tokens(api, owner, 7)
    empty_redis.flushall()
    for flooding in floods._floods.values():
        flooding.ends = time.time()

    assert send_invalid_tokens(api, owner, 4) == [401] * 4
    assert len(checked) >= 9
