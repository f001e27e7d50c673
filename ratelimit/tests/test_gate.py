"""The front gate: requests from blocked addresses are refused before any other work."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from django.utils import timezone
from prometheus_client import REGISTRY
from pytest_django.fixtures import Settings

from ratelimit.addresses.front_gate import AddressGate
from ratelimit.models import AddressRule
from ratelimit.rules import Rules, refusals, rules_cache, table_of

ADDRESS, OTHER, PROXY = "192.0.2.1", "198.51.100.1", "10.0.0.1"


@dataclass(frozen=True)
class Answer:
    """The answer that left the gate."""

    status: str
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error

    @property
    def passed(self) -> bool:
        return self.body == b"inside"


@pytest.fixture(autouse=True)
def trusted_proxies(settings: Settings) -> Iterator[None]:
    settings.ENV = settings.ENV.model_copy(update={"TRUSTED_PROXIES": ("10.0.0.0/8", "fd00::/8")})
    refusals.counts = {}
    yield
    refusals.counts = {}


def rules(*found: AddressRule) -> None:
    """Let the process hold these rules."""
    rules_cache.current = Rules(addresses=table_of(found))


def deny(network: str, kind: str = "deny", seconds: float | None = None) -> AddressRule:
    expires_at = None if seconds is None else timezone.now() + timedelta(seconds=seconds)
    return AddressRule(network=network, kind=kind, expires_at=expires_at)


def inside(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"inside"]


def ask(peer: str = ADDRESS, forwarded_for: str | None = None, **environ: Any) -> Answer:
    """Send a request through the gate, with a validator of the WSGI rules (PEP 3333) on both sides."""
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "", "REMOTE_ADDR": peer} | environ
    if forwarded_for is not None:
        environ["HTTP_X_FORWARDED_FOR"] = forwarded_for
    setup_testing_defaults(environ)
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        started.append((status, headers))
        return lambda _: None

    pieces: Any = validator(AddressGate(validator(inside)))(environ, start_response)  # type: ignore[arg-type]
    body = b"".join(pieces)
    pieces.close()
    [(status, headers)] = started
    assert len({name.lower() for name, _ in headers}) == len(headers)
    return Answer(status, dict(headers), body)


def test_without_rules_every_address_is_admitted() -> None:
    assert ask().passed


@pytest.mark.parametrize("kind", ["allow", "halved"])
def test_allowed_and_halved_addresses_are_admitted(kind: str) -> None:
    rules(deny("192.0.2.0/24", kind))

    assert ask().passed
    assert refusals.counts == {}


def test_a_denied_address_gets_403() -> None:
    rules(deny("192.0.2.0/24"))

    answer = ask()

    assert (answer.status, answer.error["code"]) == ("403 Forbidden", "LUCID_ERR_2004")
    assert "Retry-After" not in answer.headers
    assert ask(OTHER).passed


def test_refusals_are_counted_in_the_metrics() -> None:
    labels = {"plane": "gateway", "reason": "blocked_address"}
    count = lambda: REGISTRY.get_sample_value("lucid_refused_requests_total", labels)  # noqa: E731
    rules(deny("192.0.2.0/24"))
    before = count() or 0

    ask(OTHER)
    ask()

    assert count() == before + 1


def test_a_blocked_address_gets_429_until_the_block_ends() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=3_600))

    answer = ask()

    assert (answer.status, answer.error["code"]) == ("429 Too Many Requests", "LUCID_ERR_3001")
    assert 3_598 <= int(answer.headers["Retry-After"]) <= 3_600
    assert answer.error["details"] == {"retry_after": int(answer.headers["Retry-After"]), "reason": "blocked"}


@pytest.mark.parametrize(("seconds", "told"), [(0.9, "1"), (1.9, "2"), (59.9, "60")])
def test_retry_after_is_never_too_short(seconds: float, told: str) -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=seconds))

    assert ask().headers["Retry-After"] == told


def test_a_client_that_waits_for_retry_after_is_admitted() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=0.9))
    time.sleep(int(ask().headers["Retry-After"]))

    assert ask().passed


def test_retry_after_counts_down_each_second() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=60))
    told = int(ask().headers["Retry-After"])

    time.sleep(1.05)

    assert told - 10 < int(ask().headers["Retry-After"]) < told


def test_a_rule_without_an_end_is_403_and_one_with_an_end_is_429() -> None:
    rules(deny("192.0.2.1/32", "blocked"), deny("192.0.2.2/32", seconds=60))

    assert ask("192.0.2.1").status == "403 Forbidden"
    assert ask("192.0.2.2").status == "429 Too Many Requests"


def test_a_refusal_is_the_envelope_and_nothing_else() -> None:
    rules(deny("192.0.2.0/24"))

    answer = ask()

    assert set(json.loads(answer.body)) == {"error"}
    assert set(answer.error) == {"code", "message", "details", "request_id", "timestamp", "service", "version"}
    assert answer.headers["Content-Type"] == "application/json"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert answer.headers["Cache-Control"] == "no-store"
    written = datetime.fromisoformat(answer.error["timestamp"])
    assert abs((timezone.now() - written).total_seconds()) < 3


def test_each_refusal_has_its_own_request_id() -> None:
    rules(deny("192.0.2.0/24"))
    answers = [ask() for _ in range(20)]

    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 20
    assert all(answer.error["request_id"] == answer.headers["X-Request-ID"] for answer in answers)


def test_each_refusal_is_counted_for_its_rule() -> None:
    rules(deny("192.0.2.0/24"), deny("192.0.2.1/32", "blocked", seconds=60))
    for peer in (ADDRESS, ADDRESS, "192.0.2.9", OTHER):
        ask(peer)

    assert refusals.counts == {"192.0.2.1/32": 2, "192.0.2.0/24": 1}


def test_an_allowed_address_in_a_denied_network_is_admitted() -> None:
    rules(deny("192.0.2.0/24"), deny("192.0.2.1/32", "allow"))

    assert ask(ADDRESS).passed
    assert not ask("192.0.2.2").passed


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "refused"),
    [
        (PROXY, ADDRESS, True),
        (PROXY, OTHER, False),
        (PROXY, None, False),
        (PROXY, f"{OTHER}, {ADDRESS}", True),
        (PROXY, f"{ADDRESS}, {OTHER}", False),
        (PROXY, f"{OTHER}, {ADDRESS}, 10.0.0.2", True),
        ("fd00::1", ADDRESS, True),
        (OTHER, ADDRESS, False),
        (ADDRESS, OTHER, True),
        (ADDRESS, PROXY, True),
        ("", ADDRESS, True),
        ("", OTHER, False),
        ("", f"{OTHER}, {ADDRESS}", True),
        ("", None, False),
        ("garbage", ADDRESS, False),
    ],
)
def test_only_trusted_proxies_and_unix_sockets_may_name_another_hop(
    peer: str, forwarded_for: str | None, refused: bool
) -> None:
    rules(deny("192.0.2.0/24"))

    assert ask(peer, forwarded_for).passed is not refused


@pytest.mark.parametrize(
    ("peer", "refused"),
    [("2001:db8::1", True), ("2001:db8:0:0:ffff::1", True), ("2001:db8:0:1::1", False), ("::ffff:192.0.2.1", True)],
)
def test_ipv6_peers_are_refused_by_their_networks(peer: str, refused: bool) -> None:
    rules(deny("2001:db8::/64"), deny("192.0.2.1/32"))

    assert ask(peer).passed is not refused


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/v1/meta/health/live", "/admin/", "/\x00"])
def test_a_denied_address_is_refused_for_every_method_and_path(method: str, path: str) -> None:
    rules(deny("192.0.2.0/24"))

    assert ask(REQUEST_METHOD=method, PATH_INFO=path).status == "403 Forbidden"


def test_an_address_is_admitted_as_soon_as_its_rule_is_lifted() -> None:
    rules(deny("192.0.2.0/24"))
    assert not ask().passed

    rules()

    assert ask().passed
