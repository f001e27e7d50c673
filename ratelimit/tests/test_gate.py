"""The front gate: requests of blocked addresses are refused before anything else is done for them."""

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
    """What came out of the gate."""

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
    """Send a request through the gate, with a checker of the WSGI rules on either side of it (PEP 3333)."""
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


def test_without_rules_all_are_let_in() -> None:
    assert ask().passed


@pytest.mark.parametrize("kind", ["allow", "halved"])
def test_who_is_allowed_or_halved_is_let_in(kind: str) -> None:
    rules(deny("192.0.2.0/24", kind))

    assert ask().passed
    assert refusals.counts == {}


def test_who_is_denied_gets_403() -> None:
    rules(deny("192.0.2.0/24"))

    answer = ask()

    assert (answer.status, answer.error["code"]) == ("403 Forbidden", "LUCID_ERR_2004")
    assert "Retry-After" not in answer.headers
    assert ask(OTHER).passed


def test_who_is_refused_is_counted() -> None:
    count = lambda: REGISTRY.get_sample_value("lucid_refused_requests_total", {"reason": "blocked_address"})  # noqa: E731
    rules(deny("192.0.2.0/24"))
    before = count() or 0

    ask(OTHER)
    ask()

    assert count() == before + 1


def test_who_is_blocked_gets_429_until_the_block_ends() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=3_600))

    answer = ask()

    assert (answer.status, answer.error["code"]) == ("429 Too Many Requests", "LUCID_ERR_3001")
    assert 3_598 <= int(answer.headers["Retry-After"]) <= 3_600
    assert answer.error["details"] == {"retry_after": int(answer.headers["Retry-After"]), "reason": "blocked"}


@pytest.mark.parametrize(("seconds", "told"), [(0.9, "1"), (1.9, "2"), (59.9, "60")])
def test_the_told_time_is_never_too_short(seconds: float, told: str) -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=seconds))

    assert ask().headers["Retry-After"] == told


def test_who_comes_back_when_told_is_let_in() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=0.9))
    time.sleep(int(ask().headers["Retry-After"]))

    assert ask().passed


def test_each_second_tells_what_is_left() -> None:
    rules(deny("192.0.2.1/32", "blocked", seconds=60))
    told = int(ask().headers["Retry-After"])

    time.sleep(1.05)

    assert told - 10 < int(ask().headers["Retry-After"]) < told


def test_a_block_without_an_end_is_403_and_a_denial_that_ends_is_429() -> None:
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


def test_each_refusal_has_an_id_of_its_own() -> None:
    rules(deny("192.0.2.0/24"))
    answers = [ask() for _ in range(20)]

    assert len({answer.headers["X-Request-ID"] for answer in answers}) == 20
    assert all(answer.error["request_id"] == answer.headers["X-Request-ID"] for answer in answers)


def test_each_refusal_is_counted_for_its_rule() -> None:
    rules(deny("192.0.2.0/24"), deny("192.0.2.1/32", "blocked", seconds=60))
    for peer in (ADDRESS, ADDRESS, "192.0.2.9", OTHER):
        ask(peer)

    assert refusals.counts == {"192.0.2.1/32": 2, "192.0.2.0/24": 1}


def test_an_allowed_address_of_a_denied_network_is_let_in() -> None:
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
def test_another_hop_is_believed_from_trusted_proxies_and_unix_sockets_alone(
    peer: str, forwarded_for: str | None, refused: bool
) -> None:
    rules(deny("192.0.2.0/24"))

    assert ask(peer, forwarded_for).passed is not refused


@pytest.mark.parametrize(
    ("peer", "refused"),
    [("2001:db8::1", True), ("2001:db8:0:0:ffff::1", True), ("2001:db8:0:1::1", False), ("::ffff:192.0.2.1", True)],
)
def test_ipv6_peers_are_known_by_their_networks(peer: str, refused: bool) -> None:
    rules(deny("2001:db8::/64"), deny("192.0.2.1/32"))

    assert ask(peer).passed is not refused


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/", "/api/v1/meta/health/live", "/admin/", "/\x00"])
def test_whatever_a_denied_address_asks_for_it_is_refused(method: str, path: str) -> None:
    rules(deny("192.0.2.0/24"))

    assert ask(REQUEST_METHOD=method, PATH_INFO=path).status == "403 Forbidden"


def test_a_rule_that_is_lifted_lets_in_at_once() -> None:
    rules(deny("192.0.2.0/24"))
    assert not ask().passed

    rules()

    assert ask().passed
