"""Who causes the refusals: each request has an address, a network and perhaps a user and a key, but is shown once."""

import pytest

from accounts.api_keys import create_api_key
from accounts.models import User
from lucid_gateway.console.offenders import Offender, distinct, most_affected, offenders_in, with_names

TIER, FORGED = "tier_exhausted", "signature_invalid"


def groups(**kinds: dict[str, int]) -> dict[str, dict[str, int]]:
    return {f"offenders.{kind}": counts for kind, counts in kinds.items()}


def shown(**kinds: dict[str, int]) -> list[tuple[str, str, int]]:
    offenders = distinct(offenders_in(groups(**kinds)), 9)
    return [(offender.kind, offender.subject, offender.count) for offender in offenders]


def test_a_key_stands_for_its_user_address_and_network() -> None:
    assert shown(
        key={f"k1 {TIER}": 500}, user={f"u1 {TIER}": 500}, address={f"192.0.2.1 {TIER}": 501},
        network={f"192.0.2.0/24 {TIER}": 502},
    ) == [("key", "k1", 500)]  # fmt: skip


def test_a_network_of_several_addresses_stands_for_them() -> None:
    addresses = {f"203.0.113.{number} {FORGED}": 10 for number in range(31)}
    assert shown(address=addresses, network={f"203.0.113.0/24 {FORGED}": 310}) == [("network", "203.0.113.0/24", 310)]
    [network] = distinct(offenders_in(groups(address=addresses, network={f"203.0.113.0/24 {FORGED}": 310})), 9)
    assert network.addresses == 31


def test_a_single_address_is_shown_instead_of_its_network() -> None:
    assert shown(address={f"192.0.2.1 {TIER}": 9}, network={f"192.0.2.0/24 {TIER}": 9}) == [("address", "192.0.2.1", 9)]


def test_an_address_with_much_more_than_its_user_is_an_offender_of_its_own() -> None:
    assert shown(user={f"u1 {TIER}": 10}, address={f"192.0.2.1 {TIER}": 300}) == [
        ("address", "192.0.2.1", 300), ("user", "u1", 10)
    ]  # fmt: skip


def test_those_that_were_counted_together_are_nobody() -> None:
    assert shown(address={f"* {TIER}": 900, f"192.0.2.1 {TIER}": 3}) == [("address", "192.0.2.1", 3)]


def test_who_is_affected_most_is_known_for_each_reason() -> None:
    offenders = offenders_in(
        groups(key={f"k1 {TIER}": 500}, address={f"192.0.2.1 {TIER}": 500, f"198.51.100.1 {FORGED}": 40})
    )

    found = most_affected(offenders)
    assert (found[TIER].subject, found[FORGED].subject) == ("k1", "198.51.100.1")


@pytest.mark.parametrize(
    ("offender", "text", "is_harmful", "part"),
    [
        (Offender("network", "203.0.113.0/24", {FORGED: 9}), "Block…", True, "network=203.0.113.0%2F24&kind=blocked"),
        (Offender("key", "k1", {TIER: 9}), "Raise limit", False, "subject=key%3Ak1"),
        (Offender("user", "u1", {"permission_missing": 9}, name="a@example.org"), "Review", False, "/user/u1/change/"),
    ],
)
def test_each_offender_has_a_remedy(offender: Offender, text: str, is_harmful: bool, part: str) -> None:
    assert (offender.remedy.text, offender.remedy.is_harmful) == (text, is_harmful)
    assert part in offender.remedy.url


def test_users_and_keys_have_names_and_deleted_ones_keep_their_ids(owner: User) -> None:
    key, _ = create_api_key(owner, name="indexer", permissions=["user:read"])
    given = [Offender("user", str(owner.pk), {TIER: 1}), Offender("key", key.key_id, {TIER: 1})]
    gone = [Offender("user", "00000000-0000-0000-0000-000000000000", {TIER: 1}), Offender("key", "gone", {TIER: 1})]

    named = with_names([*given, *gone])
    assert [offender.shown for offender in named[:2]] == [owner.email, "indexer"]
    assert named[1].email == owner.email
    assert [offender.shown for offender in named[2:]] == [offender.subject for offender in gone]
