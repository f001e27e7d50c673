"""Automatic rules for an address inside a network that has a rule of operators."""

import pytest

from ratelimit.models import AddressRule
from ratelimit.rules import table_of

ADDRESS = "192.0.2.1"


def kind_for(*rules: AddressRule) -> str:
    """Return the kind of the rule that applies to the address."""
    verdict = table_of(rules).find(ADDRESS)
    assert verdict is not None
    return verdict.kind


def automatic(kind: str) -> AddressRule:
    return AddressRule(network="192.0.2.1/32", kind=kind)


def by_operators(kind: str, network: str = "192.0.2.0/24") -> AddressRule:
    return AddressRule(network=network, kind=kind, created_by="operator@example.org")


@pytest.mark.parametrize("kind", ["deny", "blocked", "allow"])
def test_an_automatic_halving_does_not_override_a_rule_for_the_wider_network(kind: str) -> None:
    assert kind_for(by_operators(kind), automatic("halved")) == kind
    assert kind_for(by_operators(kind), by_operators("halved", "192.0.2.0/28"), automatic("halved")) == kind


def test_an_automatic_block_does_not_override_an_allowed_network() -> None:
    assert kind_for(by_operators("allow"), automatic("blocked")) == "allow"


def test_operators_can_except_an_address_from_their_own_network_rule() -> None:
    assert kind_for(by_operators("deny"), by_operators("halved", "192.0.2.1/32")) == "halved"
    assert kind_for(by_operators("allow"), by_operators("blocked", "192.0.2.1/32")) == "blocked"
    assert kind_for(by_operators("deny"), by_operators("allow", "192.0.2.0/28"), automatic("halved")) == "allow"


def test_an_offender_in_a_halved_network_is_blocked() -> None:
    assert kind_for(by_operators("halved"), automatic("blocked")) == "blocked"
