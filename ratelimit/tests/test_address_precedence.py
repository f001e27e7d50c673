"""What the gateway found out about one address, inside a network that operators ruled on."""

import pytest

from ratelimit.models import AddressRule
from ratelimit.rules import table_of

ADDRESS = "192.0.2.1"


def kind_for(*rules: AddressRule) -> str:
    """Return what becomes of the address."""
    verdict = table_of(rules).find(ADDRESS)
    assert verdict is not None
    return verdict.kind


def found_out(kind: str) -> AddressRule:
    return AddressRule(network="192.0.2.1/32", kind=kind)


def ruled(kind: str, network: str = "192.0.2.0/24") -> AddressRule:
    return AddressRule(network=network, kind=kind, created_by="operator@example.org")


@pytest.mark.parametrize("kind", ["deny", "blocked", "allow"])
def test_a_halved_address_does_not_leave_the_network_that_operators_closed_or_allowed(kind: str) -> None:
    assert kind_for(ruled(kind), found_out("halved")) == kind
    assert kind_for(ruled(kind), ruled("halved", "192.0.2.0/28"), found_out("halved")) == kind


def test_a_blocked_address_is_let_in_with_the_network_that_operators_allow() -> None:
    assert kind_for(ruled("allow"), found_out("blocked")) == "allow"


def test_operators_take_an_address_out_of_their_network() -> None:
    assert kind_for(ruled("deny"), ruled("halved", "192.0.2.1/32")) == "halved"
    assert kind_for(ruled("allow"), ruled("blocked", "192.0.2.1/32")) == "blocked"
    assert kind_for(ruled("deny"), ruled("allow", "192.0.2.0/28"), found_out("halved")) == "allow"


def test_an_address_that_goes_on_in_a_halved_network_is_blocked() -> None:
    assert kind_for(ruled("halved"), found_out("blocked")) == "blocked"
