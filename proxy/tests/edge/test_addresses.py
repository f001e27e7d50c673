"""Address rules and trusted proxies at the edge."""

from collections.abc import Iterator
from typing import Any

import pytest

from proxy.tests.edge.conftest import Stage, printed, shell
from testing.gateway import running_gateway
from testing.http.cluster import RawCluster
from testing.http.messages import Message
from testing.waiting import wait_until

RULES = """
from datetime import timedelta
from django.utils import timezone
from ratelimit.ruling import set_address_rule
soon = timezone.now() + timedelta(hours=1)
set_address_rule(network="192.0.2.0/24", kind="deny", reason="r", by="t")
set_address_rule(network="192.0.2.64/26", kind="allow", reason="r", by="t")
set_address_rule(network="198.51.100.7", kind="blocked", reason="r", by="t", expires_at=soon)
set_address_rule(network="2001:db8:7::/48", kind="deny", reason="r", by="t")
set_address_rule(network="2001:db8:9::/48", kind="deny", reason="r", by="t")
set_address_rule(network="203.0.113.0/24", kind="deny", reason="r", by="t", observe_only=True)
"""


@pytest.fixture(scope="module")
def whole_scene() -> Iterator[Stage]:
    """An edge behind a trusted proxy, with rules for addresses."""
    settings = {"TRUSTED_PROXIES": "127.0.0.1", "RATE_LIMIT_ENABLED": "false", "EXPLORER_SAMPLE_PERCENT": "0"}
    with RawCluster() as wallets, running_gateway(edge=True, TRON_PAYMENT_URL=wallets.url, **settings) as gateway:
        shell(gateway, RULES)
        yield Stage(gateway, wallets, wallets, gateway.issue_token("demo@lucid.test"))


@pytest.fixture
def scene(whole_scene: Stage) -> Stage:
    """The edge, which knows the user, the rules and no request of an earlier test."""
    whole_scene.gateway.warm(whole_scene.token, "/wallets")
    wait_until(lambda: ask(whole_scene, "192.0.2.1").status == 403 and is_at_edge(whole_scene, "192.0.2.1"))
    whole_scene.wallets.forget()
    return whole_scene


def ask(scene: Stage, address: str, path: str = "/wallets", *fields: str) -> Message:
    return scene.ask(path, f"X-Forwarded-For: {address}", *fields)


def is_at_edge(scene: Stage, address: str) -> bool:
    """Return whether the edge refuses the address: its answers are not in the gateway's log, and have this field."""
    return ask(scene, address).header("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("path", ["/wallets", "/users/me", "/meta/info", "/nowhere"])
@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.255", "2001:db8:7::1"])
def test_a_denied_address_is_refused_on_every_path(scene: Stage, address: str, path: str) -> None:
    answer = ask(scene, address, path)

    assert (answer.status, answer.code) == (403, "2004")
    assert scene.wallets.requests == []


def test_a_blocked_address_learns_when_the_block_ends(scene: Stage) -> None:
    answer = ask(scene, "198.51.100.7")

    assert (answer.status, answer.code) == (429, "3001")
    assert 3500 < int(answer.header("Retry-After")) <= 3600
    assert answer.error()["details"]["reason"] == "blocked"


@pytest.mark.parametrize("address", ["192.0.2.70", "198.51.100.8", "2001:db8:8::1", "192.0.3.1"])
def test_other_addresses_pass_at_the_edge(scene: Stage, address: str) -> None:
    answer = ask(scene, address)

    assert (answer.status, scene.plane(answer)) == (200, "edge")
    assert scene.wallets.request.all("x-forwarded-for") == [address]


def test_a_rule_in_shadow_mode_is_counted_by_the_gateway(scene: Stage) -> None:
    answer = ask(scene, "203.0.113.9")

    assert (answer.status, scene.plane(answer)) == (200, "gateway")


def test_refusals_at_the_edge_are_counted_at_the_rule_and_kept(scene: Stage) -> None:
    code = """
import json
from lucid_gateway.explorer.models import KeptRequest
from ratelimit.models import AddressRule
rule = AddressRule.objects.get(network="2001:db8:9::/48")
rows = KeptRequest.objects.filter(plane="edge", reason="address_denied", address="2001:db8:9::5")
print(json.dumps([rule.refused, list(rows.values_list("status", "path"))]))
"""

    def counts() -> Any:
        return printed(scene.gateway, code)

    for _ in range(5):
        ask(scene, "2001:db8:9::5")

    wait_until(lambda: counts() == [5, [[403, "/api/v1/wallets"]] * 5], every=0.5)


def test_the_id_of_a_trusted_proxy_is_kept(scene: Stage) -> None:
    answer = ask(scene, "192.0.3.1", "/wallets", "X-Request-ID: from-the-proxy-1", "X-Forwarded-Proto: https")

    assert answer.header("X-Request-ID") == "from-the-proxy-1"
    assert scene.wallets.request.all("x-request-id") == ["from-the-proxy-1"]
    assert scene.wallets.request.all("x-forwarded-proto") == ["https"]
